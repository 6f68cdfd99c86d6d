"""Objects from predicted classes: separation, stitching over blocks, tuning."""
