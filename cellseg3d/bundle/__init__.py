"""Configs composed, bundles assembled, checked and loaded."""
