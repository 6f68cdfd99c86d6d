"""Predict volumes of any size with one network or several, window by window."""
