"""Score label files against the truth, and measure the objects in them."""
