"""Compute what the plain network computes, in less time."""
