"""How runs that are elsewhere are shown."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from crown_exp.launch.remote.watching.table import Row, Shown, line, table


class Ticks:
    """A clock that a test sets."""

    seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


RUN = Row(
    "r261130-abc123", "digits lr=0.1", "running", 1200, 10_000, ("loss", 0.0312), 0.42, 3661.0
)
WAITS = Row("r261130-abc124", "digits lr=1", "waiting", note="no A100 is free")


def drawn(rows: list[Row], most: int = 40, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table(rows, most, width))
    return [text.rstrip() for text in stream.getvalue().splitlines()]


def test_a_line_tells_what_there_is_to_tell() -> None:
    told = "r261130-abc123  running  step 1200/10000  loss 0.0312  $0.42  ETA 1:01:01"
    assert line(RUN) == told
    assert line(WAITS) == "r261130-abc124  waiting  no A100 is free"


def test_a_table_has_a_row_for_each() -> None:
    head, one, other = drawn([RUN, WAITS])
    assert head.split() == ["run", "name", "state", "step", "metric", "cost", "ETA"]
    assert one.split()[2:] == [
        "lr=0.1",
        "running",
        "1200/10000",
        "loss",
        "0.0312",
        "$0.42",
        "1:01:01",
    ]
    assert other.split() == ["r261130-abc124", "digits", "lr=1", "waiting"]


@pytest.mark.parametrize("name", ["x" * 100, "学習" * 40, "\x1b[31mred\x07", "[bold]x[/bold]"])
def test_names_of_any_kind_fit_and_are_harmless(name: str) -> None:
    rows = [Row("r261130-abc123", name, "running", 1200, 10_000, (name, 0.0125), 12.34, 86400.0)]
    lines = drawn(rows)
    assert len(lines) == 2
    assert "\x1b" not in lines[1] and "1200/10000" in lines[1] and "1d 00:00:00" in lines[1]


def test_what_goes_on_is_shown_before_what_is_over() -> None:
    over = [Row(f"r261130-aaaaa{n}", "x", "completed", over=True) for n in range(5)]
    lines = drawn([*over, RUN], most=3)
    assert lines[1].startswith(RUN.run)
    assert lines[-1].split() == ["…", "and", "3", "more", "3", "over"]


def test_a_terminal_has_one_table_that_is_redrawn() -> None:
    stream = Terminal()
    shown = Shown(stream, "table", Ticks())
    shown.show([RUN, WAITS])
    first = len(stream.getvalue())
    shown.show([RUN, WAITS])
    assert len(stream.getvalue()) == first  # nothing has changed
    shown.show([replace(RUN, step=1300), WAITS])
    up, again = stream.getvalue()[first:].split("\r\x1b[J")
    assert up == f"\x1b[{again.count(chr(10))}A"  # over what stood there
    assert "1300/10000" in again
    shown.say("skypilot does not answer")
    shown.close()
    shown.show([RUN])
    assert stream.getvalue().endswith(f"{up}\r\x1b[Jskypilot does not answer\n{again}")


def test_lines_are_rare_and_the_last_is_never_left_out() -> None:
    stream, clock = io.StringIO(), Ticks()
    shown = Shown(stream, "lines", clock)
    steps = [Row("r1", "x", "running", step) for step in range(1, 4)]
    shown.show([steps[0]])
    shown.show([steps[1]])
    clock.seconds = 31.0
    shown.show([steps[2]])
    shown.show([steps[2]])
    clock.seconds = 32.0
    ended = Row("r1", "x", "completed", 3, over=True)
    shown.show([ended])
    clock.seconds = 100.0
    shown.show([ended])
    assert stream.getvalue().splitlines() == [
        "r1  running  step 1", "r1  running  step 3", "r1  completed  step 3",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["lines", "table"])
def test_nobody_has_to_read(mode: str) -> None:
    shown = Shown(Gone(), mode, Ticks())  # type: ignore[arg-type]
    shown.show([RUN])
    shown.say("x")
    shown.close()
