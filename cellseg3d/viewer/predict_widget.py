"""The widget that segments a layer."""

from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit, create_widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from cellseg3d.viewer.layers import channels_beside
from cellseg3d.viewer.predict import Wanted, bundles_with_weights, segment_layer
from cellseg3d.viewer.work import Work

DEVICES = ("auto", "cpu", "cuda", "mps")


class PredictWidget(Container):  # type: ignore[misc]
    """Fields for an image, a bundle and options, and a button that segments.

    Parameters
    ----------
    viewer : Viewer
        The viewer that gets the new layers.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.image = create_widget(annotation=Image, label="image")
        self.bundle = ComboBox(choices=bundles_with_weights(), label="bundle")
        self.run = LineEdit(label="or your run", tooltip="Folder of a run of train.")
        self.objects = CheckBox(text="number single objects")
        self.uncertainty = CheckBox(text="show uncertainty")
        self.device = ComboBox(choices=DEVICES, label="device")
        self.work = Work("Segment", self.start)
        chosen = [self.image, self.bundle, self.run, self.objects, self.uncertainty]
        super().__init__(widgets=[*chosen, self.device, *self.work.widgets])

    def start(self) -> None:
        """Segment the chosen image in a thread."""
        layer = self.image.value
        if layer is None:
            self.work.said.value = "open an image first"
            return
        wanted = Wanted(
            self.run.value.strip() or str(self.bundle.value),
            objects=self.objects.value,
            uncertainty=self.uncertainty.value,
            device=str(self.device.value),
        )
        channels = channels_beside(layer, self.viewer.layers)
        self.work.run(
            lambda progress: segment_layer(layer, wanted, progress, channels),
            self.show_layers,
        )

    def show_layers(self, made: list[Any]) -> None:
        """Add the layers of a segmentation to the viewer."""
        for data, keywords, kind in made:
            self.viewer.add_layer(Layer.create(data, keywords, kind))
