"""Draw charts as SVG with the colours of the page, so that they suit dark mode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

# As narrow as the screen of a phone, where the text must still be readable.
WIDTH, HEIGHT = 440, 260
RIGHT, TOP, BOTTOM = 16, 16, 46
# The title of the y axis stands left of its ticks.
TITLE, LEAST_LEFT = 22, 46
# Largest height of a line of text, and width of a letter (the style makes letters
# larger on a phone).
LINE, LETTER = 13, 7.6
LONGEST_NAME = 24
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve of a chart: its name, its points and the number of its colour.

    Its style is "plain", "dashed" or "wide", so that curves that lie on each other can
    all be seen; draw wide ones first.
    """

    name: str
    points: Sequence[Point]
    colour: int = 1
    dots: bool = False
    style: str = "plain"


@dataclass(frozen=True)
class Axes:
    """Titles and ranges of the axes; a missing range is that of the data."""

    x: str
    y: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart: a mean, its interval and the single values."""

    name: str
    mean: float
    low: float
    high: float
    points: Sequence[tuple[str, float]]


def line_chart(lines: Sequence[Line], axes: Axes, *, diagonal: bool = False) -> str:
    """Return an SVG of curves.

    Parameters
    ----------
    lines : sequence of Line
        Points that are not finite are left out.
    axes : Axes
    diagonal : bool
        Whether to draw the line of equality, for calibration.
    """
    drawn = [
        replace(line, points=[p for p in line.points if _finite(p)]) for line in lines
    ]
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    place = _placed(axes.x_range or _span(xs), axes.y_range or _span(ys))
    parts = [*_grid(place, axes)]
    if diagonal:
        start, end = place.at((0, 0)), place.at((1, 1))
        parts.append(_segment(start, end, "chart-diagonal"))
    for line in drawn:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place.at, line.points))
        kind = f"line {line.style} c{line.colour}"
        parts.append(f'<polyline class="{kind}" points="{path}"/>')
        if line.dots or (line.style == "plain" and len(line.points) < 12):
            parts += [
                _dot(place.at(p), line.colour, _say(line.name, p)) for p in line.points
            ]
    return _svg(parts, HEIGHT, f"{axes.y} against {axes.x}") + _legend(drawn)


def interval_chart(rows: Sequence[Interval], label: str) -> str:
    """Return an SVG with one row per mean, its interval and values, 0 to 1."""
    height = TOP + BOTTOM + 34 * max(1, len(rows))
    names = [_short(row.name) for row in rows]
    left = 14 + LETTER * max(map(len, names), default=0)
    place = _Place((0.0, 1.0), (0.0, 1.0), left=left)
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = place.at((tick, 0))[0]
        parts.append(_segment((x, TOP), (x, height - BOTTOM), "grid"))
        parts.append(_words((x, height - BOTTOM + 16), f"{tick:g}", "middle"))
    for index, row in enumerate(rows):
        y = TOP + 34 * index + 17
        parts.append(_words((left - 10, y + 4), names[index], "end", row.name))
        for name, value in row.points:
            if math.isfinite(value):
                parts.append(
                    _dot((place.at((value, 0))[0], y), 0, _say(name, (value,)))
                )
        if math.isfinite(row.low) and math.isfinite(row.high):
            start, end = (place.at((v, 0))[0] for v in (row.low, row.high))
            parts.append(_segment((start, y), (end, y), "whisker"))
        if math.isfinite(row.mean):
            x = place.at((row.mean, 0))[0]
            box = f'x="{x - 3:.1f}" y="{y - 8}" width="6" height="16" rx="2"'
            parts.append(f'<rect class="mean" {box}/>')
    parts.append(_words((place.at((0.5, 0))[0], height - 8), label, "middle"))
    return _svg(parts, height, label)


def scatter_chart(points: Sequence[tuple[str, float, float]], axes: Axes) -> str:
    """Return an SVG of named points; points on the Pareto front are ringed.

    A low x (time or memory) and a high y (quality) are good. Costs that differ tenfold
    or more are drawn on a logarithmic axis.
    """
    kept = [row for row in points if _finite(row[1:])]
    costs = [x for _, x, _ in kept]
    log = bool(costs) and 0 < 10 * min(costs) <= max(costs)
    scale = math.log10 if log else float
    place = _placed(_span([scale(x) for x in costs]), _span([y for _, _, y in kept]))
    parts = [*_grid(place, axes, log=log)]
    taken: list[tuple[float, float, float]] = []
    for name, x, y in kept:
        at = place.at((scale(x), y))
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for _, a, b in kept)
        side = -1 if at[0] > 0.7 * WIDTH else 1  # Names stay inside the picture.
        first = at[0] + 8 * side
        last = first + side * LETTER * len(name)
        down = _free_line(min(first, last), max(first, last), at[1], taken)
        if down != at[1]:
            parts.append(_segment(at, (first, down), "grid"))
        anchor = "start" if side > 0 else "end"
        parts.append(_words((first, down + 4), name, anchor))
        parts.append(_dot(at, 0 if beaten else 1, _say(name, (x, y))))
    return _svg(parts, HEIGHT, f"{axes.y} against {axes.x}")


def histogram_chart(values: Sequence[float], axes: Axes) -> str:
    """Return an SVG of how many values are how large.

    Values above 0 that differ thirtyfold or more are drawn on a logarithmic axis.

    Parameters
    ----------
    values : sequence of float
        At least one.
    axes : Axes
        Titles; the ranges are those of the data.
    """
    low, high = min(values), max(values)
    log = low > 0 and high >= 30 * low
    scaled = [math.log10(value) if log else value for value in values]
    x0, x1 = (
        _span([min(scaled), max(scaled)])
        if low == high
        else (
            min(scaled),
            max(scaled),
        )
    )
    bins = min(24, max(5, math.ceil(len(values) ** 0.5)))
    counts = [0] * bins
    for value in scaled:
        counts[min(bins - 1, int((value - x0) / (x1 - x0) * bins))] += 1
    place = _placed((x0, x1), (0.0, 1.05 * max(counts)), whole=True)
    parts = [*_grid(place, axes, log=log)]
    edges = [x0 + (x1 - x0) * each / bins for each in range(bins + 1)]
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        left, top = place.at((start, count))
        right, bottom = place.at((end, 0))
        a, b = (10**edge if log else edge for edge in (start, end))
        box = f'x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}"'
        parts.append(
            f'<rect class="column" {box} height="{bottom - top:.1f}">'
            f"<title>{a:.4g} to {b:.4g}: {count}</title></rect>"
        )
    return _svg(parts, HEIGHT, f"{axes.y} against {axes.x}")


def _free_line(
    left: float, right: float, wanted: float, taken: list[tuple[float, float, float]]
) -> float:
    """Return the free height nearest to `wanted` for a name, and reserve it."""
    for step in range(2 * HEIGHT // LINE):
        down = wanted + LINE * ((step + 1) // 2) * (1 if step % 2 else -1)
        inside = TOP <= down <= HEIGHT - BOTTOM
        free = all(
            right < a or left > b or abs(down - other) >= LINE for a, b, other in taken
        )
        if inside and free:
            break
    else:
        down = wanted
    taken.append((left, right, down))
    return down


class _Place:
    """Convert values to positions in the picture."""

    def __init__(
        self, x: Point, y: Point, left: float, rows: Sequence[float] = ()
    ) -> None:
        self.x, self.y, self.left, self.rows = x, y, left, rows

    def at(self, point: Point) -> Point:
        """Return the position of a point."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = (point[0] - x0) / (x1 - x0)
        up = (point[1] - y0) / (y1 - y0)
        return (
            self.left + across * (WIDTH - self.left - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )


def _placed(x: Point, y: Point, *, whole: bool = False) -> _Place:
    """Return the place of a chart whose ticks along y fit beside the axis title.

    Only whole numbers get a tick if `whole`.
    """
    rows = [row for row in ticks(*y) if not whole or float(row).is_integer()]
    widest = max((len(f"{row:.4g}") for row in rows), default=1)
    left = max(LEAST_LEFT, TITLE + 10 + LETTER * widest)
    return _Place(x, y, left, rows)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two bounds, at most `most` + 1 of them."""
    raw = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * k for k in (1, 2, 2.5, 5, 10) if scale * k >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten whose logarithms lie between two bounds."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [k * 10.0**power for power in powers for k in (1, 2, 5)]
    return [value for value in found if low <= math.log10(value) <= high]


def _grid(place: _Place, axes: Axes, *, log: bool = False) -> list[str]:
    parts = []
    for tick in place.rows:
        start, end = place.at((place.x[0], tick)), place.at((place.x[1], tick))
        parts.append(_segment(start, end, "grid"))
        parts.append(_words((start[0] - 8, start[1] + 4), f"{tick:.4g}", "end"))
    free = -math.inf
    for tick in _decades(*place.x) if log else ticks(*place.x):
        x, y = place.at((math.log10(tick) if log else tick, place.y[0]))
        name = f"{tick:.6g}"
        half = LETTER * len(name) / 2
        x = min(x, WIDTH - half)  # A tick at the end stays inside the picture.
        if x - half > free:
            parts.append(_words((x, y + 17), name, "middle"))
            free = x + half + LETTER / 2
    middle = (place.left + WIDTH - RIGHT) / 2
    parts.append(_words((middle, HEIGHT - 8), axes.x, "middle"))
    turned = f"translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(
        f'<text class="tick" transform="{turned}" '
        f'text-anchor="middle">{escape(axes.y)}</text>'
    )
    return parts


def _span(values: Sequence[float]) -> Point:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.04 * (high - low) or max(abs(high) * 0.05, 0.01)
    return (low - margin * (low < 0 or low > margin), high + margin)


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _say(name: str, values: Sequence[float]) -> str:
    return f"{name}: {', '.join(f'{value:.4g}' for value in values)}"


def _dot(at: Point, colour: int, title: str) -> str:
    return (
        f'<circle class="dot c{colour}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4">'
        f"<title>{escape(title)}</title></circle>"
    )


def _segment(start: Point, end: Point, kind: str) -> str:
    return (
        f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" '
        f'x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
    )


def _words(at: Point, text: str, anchor: str, title: str = "") -> str:
    more = f"<title>{escape(title)}</title>" if title and title != text else ""
    return (
        f'<text class="tick" x="{at[0]:.1f}" y="{at[1]:.1f}" '
        f'text-anchor="{anchor}">{escape(text)}{more}</text>'
    )


def _short(name: str) -> str:
    """Return a name that fits beside a chart; its end tells names apart."""
    if len(name) <= LONGEST_NAME:
        return name
    kept = LONGEST_NAME - 1
    return f"{name[: kept - kept // 2]}\u2026{name[-(kept // 2) :]}"


def _svg(parts: Sequence[str], height: int, title: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{inside}</svg>'
    )


def _legend(lines: Sequence[Line]) -> str:
    if len(lines) < 2:
        return ""
    items = "".join(
        f'<span><i class="key {line.style} c{line.colour}"></i>{escape(line.name)}'
        "</span>"
        for line in lines
    )
    return f'<p class="legend">{items}</p>'
