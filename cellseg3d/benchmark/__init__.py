"""Compare methods on the same data: train, predict and score each, then test."""
