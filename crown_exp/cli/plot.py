"""A curve as a few lines of text: dots of braille, or of ASCII where the encoding has no more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from crown_exp.cli.letters import plain
from crown_exp.cli.table import painted

BRAILLE = 0x2800
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a braille letter: left column and right column, each from the top."""

ASCII = "*+xo#@%&"
"""A letter for each series where there is no braille."""

LOGARITHMIC = 100.0
"""How many times the least value the greatest is, for a scale to be logarithmic."""

COLOURS = ("cyan", "yellow", "green", "red", "blue")


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: steps that rise, a value for each; nan and infinities are left out."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]

    def points(self) -> list[tuple[float, float]]:
        """What can be drawn."""
        pairs = zip(self.steps, self.values, strict=True)
        return [(step, value) for step, value in pairs if math.isfinite(value)]


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown: steps from `left` to `right`, values from `low` to `high`."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]]) -> Frame:
        """The least that has all points in it. There is one at least."""
        steps, values = zip(*points, strict=True)
        return cls(min(steps), max(steps), min(values), max(values))

    def place(self, step: float, value: float, wide: int, high: int) -> tuple[int, int]:
        """Where a point is on `wide` x `high` dots, from the left and from the top."""
        x = share(step, self.left, self.right) * (wide - 1)
        y = (1 - share(value, self.low, self.high)) * (high - 1)
        return round(x), round(y)


def share(value: float, low: float, high: float) -> float:
    """Where between `low` and `high` it is, from 0 to 1; the middle if they are equal."""
    if low == high:
        return 0.5
    # Halved first: the distance between two floats may be none.
    return (value / 2 - low / 2) / (high / 2 - low / 2)


@dataclass(slots=True)
class Canvas:
    """Letters with dots in them: 2 x 4 to a letter in braille, one without it."""

    wide: int
    high: int
    unicode: bool
    dots: dict[tuple[int, int], int] = field(default_factory=dict)
    owners: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def across(self) -> int:
        """Dots from left to right."""
        return self.wide * 2 if self.unicode else self.wide

    @property
    def down(self) -> int:
        """Dots from top to bottom."""
        return self.high * 4 if self.unicode else self.high

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set a dot for a series."""
        at = (x // 2, y // 4) if self.unicode else (x, y)
        bit = DOTS[x % 2][y % 4] if self.unicode else 0
        self.dots[at] = self.dots.get(at, 0) | bit
        self.owners[at] = owner

    def line(self, start: tuple[int, int], end: tuple[int, int], owner: int) -> None:
        """Dots from one place to another."""
        (x, y), (to_x, to_y) = start, end
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for at in range(steps + 1):
            self.dot(round(x + (to_x - x) * at / steps), round(y + (to_y - y) * at / steps), owner)

    def row(self, y: int, colour: bool) -> str:
        """A line of letters, without spaces at its end."""
        filled = [x for x in range(self.wide) if (x, y) in self.dots]
        return "".join(self._letter(x, y, colour) for x in range(filled[-1] + 1 if filled else 0))

    def _letter(self, x: int, y: int, colour: bool) -> str:
        if (x, y) not in self.dots:
            return " "
        owner = self.owners[x, y]
        letter = chr(BRAILLE + self.dots[x, y]) if self.unicode else ASCII[owner % len(ASCII)]
        return painted(letter, COLOURS[owner % len(COLOURS)], on=colour)


def plot(
    series: Sequence[Series],
    *,
    width: int,
    height: int = 6,
    unicode: bool = True,
    colour: bool = False,
) -> Iterator[str]:
    """All series in one frame, `width` columns by `height` lines and one for the steps below.

    The greatest value stands beside the first line, the least beside the last; one line if they are equal.
    Positive values that are far apart are drawn on a logarithmic scale. Nothing is drawn of a series without
    a finite value, and no line comes if none has one.
    """
    drawn = [one.points() for one in series]
    every = [value for points in drawn for _, value in points]
    if not every:
        return
    low, high = min(every), max(every)
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    if high == low:  # a line that is flat needs no more than one
        labels = labels[:1]
    logarithmic = low > 0 and high / LOGARITHMIC > low
    if logarithmic:
        drawn = [[(step, math.log10(value)) for step, value in points] for points in drawn]
    frame = Frame.around([point for points in drawn for point in points])
    margin = max(map(len, labels))
    canvas = Canvas(max(1, width - margin - 2), len(labels), unicode)
    for number, points in enumerate(drawn):
        draw(canvas, frame, points, number)
    for y, label in enumerate(labels):
        yield f"{label:>{margin}}  {canvas.row(y, colour)}".rstrip()
    yield f"{' ' * margin}  {ends(frame, canvas.wide, 'log scale' if logarithmic else '')}"


def draw(canvas: Canvas, frame: Frame, points: Sequence[tuple[float, float]], owner: int) -> None:
    """One curve, its points joined."""
    places = [frame.place(*point, canvas.across, canvas.down) for point in points]
    for start, end in zip(places, places[1:] or places, strict=False):
        canvas.line(start, end, owner)


def ends(frame: Frame, wide: int, remark: str) -> str:
    """The first and the last step, below the corners, and a remark between them."""
    first, last = f"step {frame.left:.15g}", f"{frame.right:.15g}"
    if frame.left == frame.right:
        return f"{first}  {remark}".rstrip()
    room = wide - len(first) - len(last)
    return f"{first}{remark:^{max(1, room)}}{last}"


def legend(names: Sequence[str], *, unicode: bool = True, colour: bool = False) -> str:
    """Which series is which, by colour or by letter."""
    marks = ["⣿" if unicode else ASCII[number % len(ASCII)] for number in range(len(names))]
    parts = [
        f"{painted(mark, COLOURS[number % len(COLOURS)], on=colour)} {plain(name)}"
        for number, (mark, name) in enumerate(zip(marks, names, strict=True))
    ]
    return "   ".join(parts)
