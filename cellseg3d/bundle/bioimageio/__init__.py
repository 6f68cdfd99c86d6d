"""Packages of bioimage.io: write one of a bundle, make a bundle of one."""
