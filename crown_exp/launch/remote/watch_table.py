"""What is shown of runs that are elsewhere: a table that is redrawn on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from crown_exp.clock import Clock
from crown_exp.config.letters import cut, plain
from crown_exp.tracking.transfer import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LINE_SECONDS = 30.0
"""A run has one line in so long, but for its last."""
NAME = 24
METRIC = 20

COLORS = {"completed": "green", "running": "cyan", "failed": "red"}

Mode = Literal["table", "lines", "none"]


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

    @property
    def told_metric(self) -> str:
        """`loss 0.031`, or nothing."""
        return f"{cut(plain(self.metric[0]), METRIC)} {self.metric[1]:.4g}" if self.metric else ""

    @property
    def told_usd(self) -> str:
        """`$0.42`, or nothing."""
        return "" if self.usd is None else f"${self.usd:.2f}"

    @property
    def told_left(self) -> str:
        """`12:30`, or nothing."""
        known = self.seconds_left is not None and not self.over
        return duration(self.seconds_left or 0.0) if known else ""


def line(row: Row) -> str:
    """`r261130-abc123  running  step 1200  loss 0.031  $0.42`."""
    step = f"step {row.step}{f'/{row.total}' if row.total else ''}" if row.step else ""
    left = f"ETA {row.told_left}" if row.told_left else ""
    parts = [row.run, row.state, step, row.told_metric, row.told_usd, left]
    return "  ".join(part for part in [*parts, plain(row.note)] if part)


def table(rows: Sequence[Row], most: int = 40) -> Table:
    """The runs, those that go on first if there is no room for all; what is left out is counted."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = list(rows)
    if len(rows) > most:
        shown = sorted(rows, key=lambda it: it.over)[: max(1, most)]
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("run", "name", "state"):
        made.add_column(name, no_wrap=True)
    for name in ("step", "metric", "cost", "ETA"):
        made.add_column(name, justify="right", no_wrap=True)
    for it in shown:
        step = f"{it.step}{f'/{it.total}' if it.total else ''}" if it.step or it.total else ""
        made.add_row(
            it.run, Text(cut(plain(it.name), NAME)), Text(it.state, style=COLORS.get(it.state, "yellow")),
            step, Text(it.told_metric), it.told_usd, it.told_left,
        )  # fmt: skip
    if left := len(rows) - len(shown):
        over = sum(it.over for it in rows) - sum(it.over for it in shown)
        made.add_row(f"… and {left} more", f"{over} over" if over else "", "", "", "", "", "")
    return made


class Shown:
    """Where rows are shown, at each look. From any thread; a stream that is gone ends the show alone."""

    def __init__(self, stream: TextIO, mode: Mode, clock: Clock) -> None:
        self.stream, self.mode, self.clock = stream, mode, clock
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._said: dict[str, Row] = {}
        self._said_at: dict[str, float] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """What has changed."""
        with self._lock, suppress(OSError, ValueError):
            if self.mode == "table":
                self._draw(rows)
            elif self.mode == "lines":
                for row in rows:
                    self._tell(row)

    def say(self, text: str) -> None:
        """A line of its own, above the table if there is one."""
        with self._lock, suppress(OSError, ValueError):
            if self._live is not None:
                self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            elif self.mode != "none":
                self.stream.write(f"{text}\n")
                self.stream.flush()

    def close(self) -> None:
        """Nothing is shown any more; the table stays as it is."""
        with self._lock, suppress(OSError, ValueError):
            self.mode = "none"
            if self._live is not None:
                live, self._live = self._live, None
                live.stop()

    def _draw(self, rows: Sequence[Row]) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.stream, highlight=False)
            options: Any = {
                "auto_refresh": False,
                "redirect_stdout": False,
                "redirect_stderr": False,
            }
            self._live = Live(console=console, **options)
            self._live.start()
        most = self._live.console.height - 4
        self._live.update(table(rows, most), refresh=True)

    def _tell(self, row: Row) -> None:
        before, now = self._said.get(row.run), self.clock.monotonic()
        if before is not None and (before.over or line(before) == line(row)):
            return
        waited = now - self._said_at.get(row.run, -LINE_SECONDS)
        if waited < LINE_SECONDS and not row.over:
            return
        self._said[row.run], self._said_at[row.run] = row, now
        self.stream.write(f"{line(row)}\n")
        self.stream.flush()
