"""Measure after a training what prediction needs: halo, windows, weights, sizes."""
