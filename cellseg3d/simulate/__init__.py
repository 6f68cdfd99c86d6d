"""Simulate tomograms of cells whose true labels are known; nothing needs torch."""
