"""Scores of labels against labels, and their statistics; no torch."""
