"""Scores that compare labels with labels, and their statistics; nothing needs torch."""
