"""Read and write TIFF, ImageJ hyperstacks and OME-TIFF."""
