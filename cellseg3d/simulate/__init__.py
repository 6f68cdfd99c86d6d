"""Simulated tomograms of cells of known geometry; no torch."""
