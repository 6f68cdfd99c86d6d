"""The components of a cell: label values and absorption coefficients at 517 eV.

Calculated for 517 eV from tabulated scattering factors [1]_: vitreous ice 0.11
(0.93 g/cm^3), protein 1.34 (1.35 g/cm^3), triglyceride 0.89, silica 0.96, carbon 2.5
per um. Cytoplasm and organelles are water with organic matter, so their coefficients
lie between ice and the organic's: 10 % protein by volume gives 0.23 per um.

Measured means of a yeast phantom fitted to tomograms [2]_: cell 0.346 +- 0.027,
vacuole 0.182 +- 0.039, lipid droplet 0.570 +- 0.111 per um. Nuclei differ little from
the cytoplasm in the mean and show by their texture: condensed chromatin absorbs more
than the rest [3]_. Mitochondria and dense vesicles lie above the cytoplasm and vary
with the cell's state [4]_. The ranges below were chosen for this package. They contain
these figures and the differences between cell types, so a network trained on them has
to use shape and texture as well.

References
----------
.. [1] Henke, Gullikson, Davis 1993, At. Data Nucl. Data Tables 54:181,
   doi:10.1006/adnd.1993.1013
.. [2] Egebjerg, Wuestner 2025, SimAQ, doi:10.48550/arXiv.2508.10821
.. [3] Le Gros et al. 2016, Cell Rep. 17:2125, doi:10.1016/j.celrep.2016.10.060
.. [4] White et al. 2020, Sci. Adv. 6:eabc8262, doi:10.1126/sciadv.abc8262
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

BACKGROUND: Final = 0
CYTOPLASM: Final = 1
NUCLEUS: Final = 2
LIPID_DROPLET: Final = 3
VESICLE: Final = 4
MITOCHONDRION: Final = 5

LABEL_NAMES: Final[Mapping[int, str]] = {
    BACKGROUND: "background",
    CYTOPLASM: "cytoplasm",
    NUCLEUS: "nucleus",
    LIPID_DROPLET: "lipid droplet",
    VESICLE: "vesicle",
    MITOCHONDRION: "mitochondrion",
}

# The four classes that a network learns, and the class of every label value. Droplets
# and vesicles are too few to learn from a handful of cells and count as cytoplasm.
CLASSES: Final = ("background", "cytoplasm", "nucleus", "mitochondrion")
LABEL_MAP: Final[Mapping[int, int]] = {0: 0, 1: 1, 2: 2, 3: 1, 4: 1, 5: 3}

# Lowest and highest coefficient, 1/um. Those of `ABOVE_EUCHROMATIN` are added to the
# cell's euchromatin, so condensed chromatin always absorbs more.
LAC_PER_UM: Final[Mapping[str, tuple[float, float]]] = {
    "ice": (0.105, 0.118),
    "glass": (0.85, 1.05),
    "cytoplasm": (0.22, 0.30),
    "plasma membrane": (0.34, 0.44),
    "euchromatin": (0.17, 0.22),
    "mitochondrion": (0.34, 0.44),
    "lipid droplet": (0.50, 0.72),
    "vesicle": (0.13, 0.20),
}
ABOVE_EUCHROMATIN: Final[Mapping[str, tuple[float, float]]] = {
    "heterochromatin": (0.07, 0.12),
    "nucleolus": (0.09, 0.14),
    "nuclear envelope": (0.10, 0.16),
}
# A grid's carbon film: coefficient (1/um) and thickness (um).
CARBON_PER_UM: Final = 2.5
FILM_UM: Final = 0.015


@dataclass(frozen=True, slots=True)
class Palette:
    """The coefficients of one cell.

    Parameters
    ----------
    lac_per_um : mapping of str to float
        Linear absorption coefficient of each component, 1/um.
    """

    lac_per_um: Mapping[str, float]

    def __getitem__(self, component: str) -> float:
        """Return the coefficient of a component, 1/um."""
        return self.lac_per_um[component]


def draw_palette(rng: np.random.Generator) -> Palette:
    """Draw the coefficients of one cell, uniformly in the published ranges."""
    drawn = {name: float(rng.uniform(*span)) for name, span in LAC_PER_UM.items()}
    for name, span in ABOVE_EUCHROMATIN.items():
        drawn[name] = drawn["euchromatin"] + float(rng.uniform(*span))
    return Palette(drawn)
