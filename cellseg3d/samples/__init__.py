"""Draw and augment training samples; read and write volumes for MONAI."""
