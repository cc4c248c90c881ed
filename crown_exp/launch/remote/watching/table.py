"""What is shown of runs that are elsewhere: a table that is redrawn on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Literal, TextIO

from crown_exp.clock import Clock
from crown_exp.compute.money import in_dollars
from crown_exp.config.letters import columns, cut, plain
from crown_exp.tracking.transfer import duration

if TYPE_CHECKING:
    from rich.table import Table

LINE_SECONDS = 30.0
"""A run has one line in so long, but for its last."""
METRIC = (20, 12, 6)
"""Columns for a metric's name: the first with which a run's name has room."""
NAME, GAP = 8, 2
ROOM = 3
"""Lines of a terminal that are not for rows: the head, a line for the rest, the cursor."""
UNKNOWN = (80, 24)

COLORS = {"completed": "green", "running": "cyan", "failed": "red"}

Mode = Literal["table", "lines", "said", "none"]
"""`said`: only what goes wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run as it is shown.

    total: the step at which it ends, if known. usd: None if nothing is paid. seconds_left: None if not known.
    note: half a sentence of its executor.
    """

    run: str
    name: str
    state: str
    step: int = 0
    total: int | None = None
    metric: tuple[str, float] | None = None
    usd: float | None = None
    seconds_left: float | None = None
    note: str = ""
    over: bool = False

    def told_metric(self, room: int) -> str:
        """`loss 0.031`, or nothing. room: columns for the name."""
        return f"{cut(plain(self.metric[0]), room)} {self.metric[1]:.4g}" if self.metric else ""

    @property
    def told_usd(self) -> str:
        """`$0.42`, or nothing."""
        return "" if self.usd is None else in_dollars(self.usd)

    @property
    def told_left(self) -> str:
        """`12:30`, or nothing."""
        known = self.seconds_left is not None and not self.over
        return duration(self.seconds_left or 0.0) if known else ""


def line(row: Row) -> str:
    """`r261130-abc123  running  step 1200  loss 0.031  $0.42`."""
    step = f"step {row.step}{f'/{row.total}' if row.total else ''}" if row.step else ""
    left = f"ETA {row.told_left}" if row.told_left else ""
    parts = [row.run, row.state, step, row.told_metric(METRIC[0]), row.told_usd, left]
    return "  ".join(part for part in [*parts, plain(row.note)] if part)


HEADS = ("run", "name", "state", "step", "metric", "cost", "ETA")


def table(rows: Sequence[Row], most: int = 40, width: int = 80) -> Table:
    """The runs, those that go on first if there is no room for all; what is left out is counted.

    Names have the columns that the rest leaves to them.
    """
    from rich.table import Table
    from rich.text import Text

    shown = list(rows)
    if len(rows) > most:
        shown = sorted(rows, key=lambda it: it.over)[: max(1, most)]
    cells = _fitting(shown, width)
    if left := len(rows) - len(shown):
        over = sum(it.over for it in rows) - sum(it.over for it in shown)
        cells.append([f"… and {left} more", f"{over} over" if over else "", "", "", "", "", ""])
    made = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in HEADS:
        made.add_column(name, no_wrap=True, justify="right" if name in HEADS[3:] else "left")
    for row in cells:
        state = Text(row[2], style=COLORS.get(row[2], "yellow"))
        made.add_row(row[0], Text(row[1]), state, *map(Text, row[3:]))
    return made


def _fitting(rows: Sequence[Row], width: int) -> list[list[str]]:
    """The cells of rows, with names, and of metrics their names, cut to what there is room for."""
    for metric in METRIC:
        cells = [_cells(it, metric) for it in rows]
        others = [[*column] for column in zip(HEADS, *cells, strict=True) if column[0] != "name"]
        room = width - sum(max(map(columns, column)) + GAP for column in others)
        if room >= NAME:
            break
    for row in cells:
        row[1] = cut(row[1], max(room, len("name")))
    return cells


def _cells(it: Row, metric: int) -> list[str]:
    step = f"{it.step}{f'/{it.total}' if it.total else ''}" if it.step or it.total else ""
    told = it.told_metric(metric)
    return [it.run, plain(it.name), it.state, step, told, it.told_usd, it.told_left]


class Shown:
    """Where rows are shown, at each look. From any thread; a stream that is gone ends the show alone."""

    def __init__(self, stream: TextIO, mode: Mode, clock: Clock) -> None:
        self.stream, self.mode, self.clock = stream, mode, clock
        self._lock = threading.Lock()
        self._drawn = ""
        self._said: dict[str, Row] = {}
        self._said_at: dict[str, float] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """What has changed."""
        with self._lock:
            if self.mode == "table":
                self._draw(rows)
            elif self.mode == "lines":
                for row in rows:
                    self._tell(row)

    def say(self, text: str) -> None:
        """A line of its own, above the table if there is one."""
        with self._lock:
            if self.mode != "none":
                self._write(f"{self._back()}{text}\n{self._drawn}")

    def close(self) -> None:
        """Nothing is shown any more; the table stays as it is."""
        with self._lock:
            self.mode = "none"

    def _draw(self, rows: Sequence[Row]) -> None:
        from rich.console import Console

        width, height = size(self.stream)
        made = StringIO()
        console = Console(file=made, width=width, force_terminal=True, highlight=False)
        console.print(table(rows, height - ROOM, width))
        text = made.getvalue()
        if text != self._drawn:
            back, self._drawn = self._back(), text
            self._write(back + text)

    def _back(self) -> str:
        """To where the table begins, which is wiped."""
        count = self._drawn.count("\n")
        return f"\x1b[{count}A\r\x1b[J" if count else ""

    def _tell(self, row: Row) -> None:
        before, now = self._said.get(row.run), self.clock.monotonic()
        if before is not None and (before.over or line(before) == line(row)):
            return
        waited = now - self._said_at.get(row.run, -LINE_SECONDS)
        if waited < LINE_SECONDS and not row.over:
            return
        self._said[row.run], self._said_at[row.run] = row, now
        self._write(f"{line(row)}\n")

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.mode = "none"  # nobody looks any more


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of a terminal; 80 and 24 where it does not tell."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return UNKNOWN
    return found.columns or UNKNOWN[0], found.lines or UNKNOWN[1]
