"""A plugin for napari: open volumes, segment them, correct and train again.

The modules hold plain functions over the public API, and widgets that call them in a
thread. Only the widgets and what adds layers import napari, which an extra installs.
"""
