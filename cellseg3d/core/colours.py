"""The colours of label values in every picture."""

# Okabe and Ito's, which people with colour-blindness tell apart;
# doi:10.1038/nmeth.1618. The first is background.
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
