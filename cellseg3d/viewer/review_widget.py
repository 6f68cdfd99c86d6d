"""The widget that shows pieces to correct, one by one, and trains on them."""

import tempfile
from pathlib import Path
from typing import Any

from magicgui.widgets import (
    Container,
    FileEdit,
    FloatSpinBox,
    Label,
    LineEdit,
    PushButton,
    SpinBox,
    create_widget,
)
from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer

from cellseg3d.core.errors import CellSegError
from cellseg3d.review.pieces import Review
from cellseg3d.viewer.review import pick_pieces, piece_layers, save_piece, train_again
from cellseg3d.viewer.work import Progress, Work


class ReviewWidget(Container):  # type: ignore[misc]
    """Buttons that pick pieces, save each one when it is corrected, and train on them.

    Parameters
    ----------
    viewer : Viewer
        The viewer that shows the pieces.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.review: Review | None = None
        self.number = 0
        self.shown: list[Any] = []
        self.image = create_widget(annotation=Image, label="image (a file)")
        self.bundle = LineEdit(label="bundle or run", value="cell_tomo_unet3d")
        folder = Path(tempfile.gettempdir()) / "cellseg3d_review"
        self.out = FileEdit(mode="w", label="new folder", value=folder)
        self.count = SpinBox(value=20, min=1, max=1000, label="pieces")
        self.pick = Work("Pick pieces", self.start_picking)
        self.where = Label(value="")
        self.where.native.setWordWrap(True)
        self.keep = PushButton(text="Labels are right: save, next", enabled=False)
        self.skip = PushButton(text="Leave out: next", enabled=False)
        self.minutes = FloatSpinBox(value=10, min=0.1, max=10_000, label="minutes")
        self.train = Work("Train again", self.start_training, "s", 1)
        self.train.start.enabled = False
        self.keep.changed.connect(lambda _: self.save())
        self.skip.changed.connect(lambda _: self.show_piece(self.number + 1))
        asked = [self.image, self.bundle, self.out, self.count, *self.pick.widgets]
        moves = [self.where, self.keep, self.skip]
        super().__init__(widgets=[*asked, *moves, self.minutes, *self.train.widgets])

    def start_picking(self) -> None:
        """Predict the image and choose the pieces, in a thread."""
        layer, bundle, out = self.image.value, self.bundle.value, Path(self.out.value)
        if layer is None:
            self.pick.said.value = "open a file first"
            return
        count = int(self.count.value)
        self.pick.run(
            lambda progress: pick_pieces(layer, bundle, out, count, progress),
            self.begin,
        )

    def begin(self, review: Review) -> None:
        """Show the first piece of a review."""
        self.review = review
        self.show_piece(0)

    def show_piece(self, number: int) -> None:
        """Show a piece in place of the one before; after the last, ask to train."""
        if self.review is None:
            return
        for layer in self.shown:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        # A piece is one slice; the volumes around it would only hide it.
        for layer in self.viewer.layers:
            layer.visible = False
        self.shown, self.number = [], number
        inside = number < len(self.review.pieces)
        self.keep.enabled = self.skip.enabled = inside
        self.train.start.enabled = number > 0
        if not inside:
            self.where.value = "That was the last piece; press Train again."
            return
        piece = self.review.pieces[number]
        self.where.value = f"{number + 1} of {len(self.review.pieces)}: {piece.name}"
        for data, keywords, kind in piece_layers(self.review, piece):
            layer = Layer.create(data, keywords, kind)
            self.shown.append(self.viewer.add_layer(layer))
        self.viewer.dims.set_current_step(0, 0)
        self.viewer.reset_view()

    def save(self) -> None:
        """Write the labels of the piece that is shown, and go to the next one."""
        if self.review is None or not self.shown:
            return
        piece = self.review.pieces[self.number]
        try:
            save_piece(self.review, piece, self.shown[-1].data)
        except CellSegError as error:
            show_error(str(error))
            return
        self.show_piece(self.number + 1)

    def start_training(self) -> None:
        """Train on the pieces that were saved, in a process of its own."""
        review, bundle = self.review, str(self.bundle.value)
        if review is None:
            return
        out = review.folder.with_name(f"{review.folder.name}_run")
        minutes = float(self.minutes.value)

        def trained(progress: Progress) -> Path:
            return train_again(review, bundle, out, minutes, progress)

        self.train.run(trained, self.finish)

    def finish(self, run: Path) -> None:
        """Put the new run into the field of the bundle, for the next round."""
        self.bundle.value = str(run)
        self.train.said.value = f"trained: {run}"
