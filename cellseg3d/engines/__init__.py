"""Training and evaluation engines on Ignite."""
