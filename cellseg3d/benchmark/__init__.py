"""2D against 2.5D against 3D: run matrix and paired comparison."""
