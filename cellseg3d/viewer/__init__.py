"""A plugin for napari: open volumes, segment them, correct and train again.

Some modules hold functions that take and return layers, and the others hold the widgets
that call these functions in a thread. Only the widgets import napari, which the extra
``napari`` installs.
"""
