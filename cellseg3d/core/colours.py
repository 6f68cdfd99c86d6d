"""The colours in which every picture draws the label values."""

# The palette of Okabe and Ito, which people with colour blindness can tell apart;
# doi:10.1038/nmeth.1618. The first colour is the background.
LABEL_COLOURS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# The colour of what is not annotated (255).
UNKNOWN_COLOUR = (90, 90, 90)
