"""Find separate objects in predicted classes, block by block, and tune how."""
