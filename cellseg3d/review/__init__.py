"""Choose slices to correct by hand, train on them, and score before and after."""
