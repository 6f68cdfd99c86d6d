"""Scores and measurements of label files."""
