"""Compose configs, assemble and check bundles, and load the models that they hold."""
