"""Checks of labelled data before training, and repairs."""
