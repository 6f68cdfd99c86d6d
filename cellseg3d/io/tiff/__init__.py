"""TIFF, ImageJ hyperstacks and OME-TIFF."""
