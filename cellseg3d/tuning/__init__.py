"""Search for better training settings."""
