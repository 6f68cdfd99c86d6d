"""A network of another program, with the shapes and steps that its package declares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.models.foreign.program import Kind, Run, load_program
from cellseg3d.models.geometry import Geometry

# What a network answers, and how it becomes logits of classes that exclude each other.
ANSWERS = ("logits", "softmax", "sigmoid")
# Probabilities of 0 and 1 would be logits without end.
_EDGE = 1e-6
Step = Sequence[Any]


@dataclass(frozen=True)
class Shapes:
    """The axes of a stored network's input and output, and the sizes it takes.

    Parameters
    ----------
    axes_in, axes_out : str
        Such as ``"bcyx"``; without ``b`` the network takes one image at a time.
    smallest, step : tuple of int
        It takes sides of ``smallest + n * step``, for each axis of space; a step of 0
        stands for this size alone.

    Raises
    ------
    ConfigError
        If the axes are no axes of space with b and c, or sizes make no sense.
    """

    axes_in: str
    axes_out: str
    smallest: tuple[int, ...]
    step: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "smallest", tuple(map(int, self.smallest)))
        object.__setattr__(self, "step", tuple(map(int, self.step)))
        for axes in (self.axes_in, self.axes_out):
            if set(axes) - set("bc") != set(self.space) or len(set(axes)) != len(axes):
                message = f"axes {axes!r}; expected {self.space} and perhaps b and c"
                raise ConfigError(message)
        numbers = len(self.smallest) in (2, 3) and len(self.step) == len(self.smallest)
        if not numbers or min(self.smallest) < 1 or min(self.step) < 0:
            message = (
                f"smallest {list(self.smallest)}, step {list(self.step)}; expected two "
                "or three sizes, and as many steps"
            )
            raise ConfigError(message)

    @property
    def space(self) -> str:
        """The axes of space, in our order."""
        return "zyx"[-len(self.smallest) :]


class ForeignNetwork(nn.Module):
    """Run a stored network; (N, 1, ...) in, logits (N, K, ...) out, as ours do.

    The program is one of the weights, so that it is hashed and travels with them. It
    starts when it is first asked for an answer. Sides that the network does not take
    are padded.

    Parameters
    ----------
    kind : {"torchscript", "onnx"}
    size : int
        Bytes of the program.
    shapes : Shapes or mapping
    channels : int
        Channels of its output.
    answers : {"logits", "softmax", "sigmoid"}
        What its output is after `after`: logits or probabilities of classes, the
        first is the background, or a probability for each channel by itself. Then
        background is where none is above one half.
    before, after : sequence of steps
        ``["linear", gain, offset]``, ``["clip", low, high]``, ``["sigmoid"]`` and
        ``["softmax"]``, done to its input and output.

    Raises
    ------
    ConfigError
        If they contradict each other.
    """

    program: Tensor

    def __init__(
        self,
        kind: Kind,
        size: int,
        shapes: Shapes | Mapping[str, Any],
        channels: int,
        answers: str,
        before: Sequence[Step] = (),
        after: Sequence[Step] = (),
    ) -> None:
        super().__init__()
        self.shapes = shapes if isinstance(shapes, Shapes) else Shapes(**shapes)
        if answers not in ANSWERS or (answers != "sigmoid" and channels < 2):
            message = (
                f"answers {answers!r} of {channels} channels; expected one of "
                f"{', '.join(ANSWERS)}, and two classes or more for the first two"
            )
            raise ConfigError(message)
        self.kind: Kind = kind
        self.answers = answers
        self.before, self.after = tuple(before), tuple(after)
        self.num_classes = channels + (answers == "sigmoid")
        self.in_channels, self.spatial_dims = 1, len(self.shapes.space)
        self.geometry = Geometry(
            self.spatial_dims,
            1,
            tuple(each or 1 for each in self.shapes.step),
            # Nobody knows what its layers look at, so windows overlap.
            sees_window=False,
        )
        self.register_buffer("program", torch.zeros(size, dtype=torch.uint8))
        # Says on which device the network is.
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)
        self._running: tuple[torch.device, Run] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs; a copy starts its own."""
        return {**self.__dict__, "_running": None}

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of a batch."""
        return self._logits(self.answer(image))

    def answer(self, image: Tensor) -> Tensor:
        """Return what the network answers after all steps, (N, channels, ...)."""
        sides = image.shape[2:]
        padded = self._padded(_applied(image.float(), self.before))
        answer = torch.cat([self._asked(one) for one in self._batches(padded)])
        whole = (slice(None), slice(None), *(slice(0, side) for side in sides))
        return _applied(answer, self.after)[whole].to(image.device)

    def _batches(self, image: Tensor) -> Sequence[Tensor]:
        return [image] if "b" in self.shapes.axes_in else image.chunk(len(image))

    def _asked(self, image: Tensor) -> Tensor:
        """Return what the stored network answers, as (N, C, ...)."""
        axes_in, axes_out = self.shapes.axes_in, self.shapes.axes_out
        ours = f"bc{self.shapes.space}"
        kept = [axis for axis in ours if axis in axes_in]
        missing = [number for number, axis in enumerate(ours) if axis not in kept]
        for number in reversed(missing):
            image = image.squeeze(number)
        given = image.permute([kept.index(axis) for axis in axes_in]).contiguous()
        answer = self._run(image.device)(given)
        if isinstance(answer, list | tuple):
            answer = answer[0]
        if not isinstance(answer, Tensor) or answer.ndim != len(axes_out):
            message = (
                f"the stored network answers {type(answer).__name__} of "
                f"{getattr(answer, 'ndim', 'no')} axes; expected {axes_out!r}"
            )
            raise FormatError(message)
        found = [axis for axis in ours if axis in axes_out]
        answer = answer.permute([axes_out.index(axis) for axis in found])
        for number, axis in enumerate(ours):
            if axis not in found:
                answer = answer.unsqueeze(number)
        return answer.float()

    def _run(self, device: torch.device) -> Run:
        if self._running is None or self._running[0] != device:
            program = self.program.cpu().numpy().tobytes()
            self._running = (device, load_program(self.kind, program, device))
        return self._running[1]

    def _padded(self, image: Tensor) -> Tensor:
        """Repeat the far ends until the network takes the sides."""
        ends: list[int] = []
        for side, low, step in zip(
            image.shape[2:], self.shapes.smallest, self.shapes.step, strict=True
        ):
            over = max(0, side - low)
            if step == 0 and over:
                raise ConfigError(f"a window of {side}; the network takes {low} alone")
            wanted = low + (-(-over // step) * step if step else 0)
            ends = [0, wanted - side, *ends]
        if not any(ends):
            return image
        return nn.functional.pad(image, ends, mode="replicate")

    def _logits(self, answer: Tensor) -> Tensor:
        if self.answers == "logits":
            return answer
        probs = answer.clamp(_EDGE, 1 - _EDGE)
        if self.answers == "softmax":
            return probs.log()
        # A channel wins over the background, whose logit is 0, above one half.
        scores = probs.logit()
        return torch.cat([torch.zeros_like(scores[:, :1]), scores], dim=1)


def _applied(values: Tensor, steps: Sequence[Step]) -> Tensor:
    """Return a batch (N, C, ...) after some steps."""
    for name, *numbers in steps:
        if name == "linear":
            values = values * numbers[0] + numbers[1]
        elif name == "clip":
            values = values.clamp(numbers[0], numbers[1])
        elif name == "sigmoid":
            values = values.sigmoid()
        elif name == "softmax":
            values = values.softmax(1)
        else:
            message = (
                f"unknown step {name!r}; expected linear, clip, sigmoid or softmax"
            )
            raise ConfigError(message)
    return values
