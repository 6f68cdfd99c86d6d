"""Choose what to correct by hand, take the corrections in, and say what they gained."""
