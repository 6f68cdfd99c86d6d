"""Read packages that other programs wrote; what they share, and those of MONAI."""
