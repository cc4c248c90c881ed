"""Rows of texts as lines that are aligned, and no wider than the screen where that can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crown_exp.config.letters import columns, cut, plain

GAP = "  "
LEAST = 6
"""Columns that a column is never cut below."""

COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
STATES = {
    "running": "cyan", "completed": "green", "pruned": "green", "failed": "red", "lost": "red",
    "stopped": "yellow", "capped": "yellow", "preempted": "yellow", "queued": "blue", "planned": "blue",
}  # fmt: skip
"""The colours of states."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a colour of `COLOURS`, or in none. What a terminal would obey is made harmless in the table."""

    text: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column looks. right: texts stand at its right edge, as numbers do. whole: never cut, as an id."""

    name: str
    right: bool = False
    whole: bool = False


Head = Column | str
Text = Cell | str


def table(
    headers: Sequence[Head],
    rows: Sequence[Sequence[Text]],
    *,
    width: int,
    colour: bool = False,
) -> Iterator[str]:
    """A line of headers (none if all are empty), a line for each row, no spaces at their ends.

    Where `width` columns do not suffice, the widest columns are cut, never those that are to stay whole:
    rather than that, the lines are longer.
    """
    heads = [head if isinstance(head, Column) else Column(head) for head in headers]
    cells = [[_harmless(cell) for cell in row] for row in rows]
    named = [[Cell(plain(head.name), "bold") for head in heads]]
    lines = [*(named if any(head.name for head in heads) else []), *cells]
    widths = fitted(heads, [[columns(cell.text) for cell in line] for line in lines], width)
    for line in lines:
        yield _line(heads, line, widths, colour)


def fitted(heads: Sequence[Column], needed: Sequence[Sequence[int]], width: int) -> list[int]:
    """How wide each column is: as its widest text needs, less where that is too much for the screen."""
    if not needed:
        return [0 for _ in heads]
    widths = [max(column) for column in zip(*needed, strict=True)]
    widths = [it if head.whole else min(it, width) for head, it in zip(heads, widths, strict=True)]
    over = sum(widths) + len(GAP) * (len(heads) - 1) - width
    while over > 0:
        most, at = max((-1 if head.whole else widths[at], at) for at, head in enumerate(heads))
        if most <= LEAST:
            break
        widths[at] -= 1
        over -= 1
    return widths


def _harmless(cell: Text) -> Cell:
    return Cell(plain(cell.text), cell.colour) if isinstance(cell, Cell) else Cell(plain(cell))


def _line(
    heads: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int], colour: bool
) -> str:
    """Padded, then coloured: escape sequences take no room."""
    last = max((at for at, cell in enumerate(cells) if cell.text), default=-1)
    parts = []
    for at, (head, cell, wide) in enumerate(zip(heads, cells, widths, strict=True)):
        text = cell.text if head.whole else cut(cell.text, wide)
        room = " " * (wide - columns(text))
        shown = painted(text, cell.colour, on=colour)
        parts.append(f"{room}{shown}" if head.right else shown + (room if at < last else ""))
    return GAP.join(parts[: last + 1])


def painted(text: str, colour: str, *, on: bool) -> str:
    """A plain text in a colour, if colours are on."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if on and colour and text else text
