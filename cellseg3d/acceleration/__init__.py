"""Faster ways to compute what the plain network computes."""
