"""Cases, splits, transforms and samplers."""
