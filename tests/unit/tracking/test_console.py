"""What a person sees of a loop: on a terminal, in a file, and with `tracker=none`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.letters import columns
from crown_exp.tracking import Loop, Point
from crown_exp.tracking.console import Console, describe, speed
from crown_exp.tracking.terminal import ERASE, Foot
from crown_exp.tracking.transfer import Transfer, duration, told, with_bar


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (4.4, "0:04"),
        (59.6, "1:00"),
        (750, "12:30"),
        (11045, "3:04:05"),
        (183845, "2d 03:04:05"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (1234.6, "1235/s"),
        (99.94, "99.9/s"),
        (1.0, "1.0/s"),
        (0.5, "2.0 s/step"),
        (0.01, "100.0 s/step"),
    ],
)
def test_speed(rate: float, shown: str) -> None:
    assert speed(rate) == shown


@pytest.mark.parametrize(
    ("loop", "rate", "values", "shown"),
    [
        (Loop("", 1000, done=300), 100.0, {"loss": 0.2134567}, "300/1000 steps  100/s  ETA 0:07  loss 0.2135"),
        (Loop("finetune", 10, done=10), 2.0, {}, "finetune 10/10 steps  2.0/s"),
        (Loop("", None, done=7), 3.0, {"a": 1e-9, "b": 12345678}, "7 steps  3.0/s  a 1e-09  b 1.235e+07"),
        (Loop("", 5, done=0), 0.0, {}, "0/5 steps"),
        (Loop("", None), 0.0, {"x": float("nan")}, "0 steps  x nan"),
    ],
)  # fmt: skip
def test_describe(loop: Loop, rate: float, values: dict[str, float], shown: str) -> None:
    assert describe(loop, rate, values) == shown


def test_a_bar_where_there_is_room() -> None:
    assert with_bar("5/10 steps", 5, 10, 79) == "[==========          ] 5/10 steps"
    assert with_bar("5/10 steps", 5, 10, 30) == "5/10 steps"
    assert with_bar("x" * 100, 5, 10, 79) == "x" * 78 + "…"
    assert with_bar("5 steps", 5, None, 79) == "5 steps"
    assert with_bar("all", 10, 10, 79) == f"[{'=' * 20}] all"


def test_a_name_is_harmless_and_cut() -> None:
    text = describe(Loop("a\x07", 5), 0.0, {"x\x1b[31m\n": 1.0, "n" * 5000: 2.0})
    assert text == f"a\\x07 0/5 steps  x\\x1b[31m\\n 1  {'n' * 59}… 2"


@given(st.dictionaries(st.text(max_size=300), st.floats(), max_size=9), st.integers(0, 10**6))
def test_a_line_is_one_and_short_whatever_the_names(values: dict[str, float], named: int) -> None:
    text = describe(Loop("", 5), 0.0, values, named)
    assert text.isprintable()
    assert columns(text) < 160 + 9 * 12 + 40


def test_the_names_that_have_no_room_are_counted() -> None:
    values = {f"{at}{'n' * 49}": float(at) for at in range(5)}
    shown = "".join(f"  {name} {value:.4g}" for name, value in list(values.items())[:3])
    assert describe(Loop("", 5), 0.0, values, 1205) == f"0/5 steps{shown}  … 1,202 more"


def test_a_bar_of_wide_letters_fits_the_width() -> None:
    assert columns(with_bar("模" * 100, 5, 10, 79)) <= 79
    assert columns(with_bar("模" * 30, 5, 10, 79)) <= 79


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def point(step: int, **values: float) -> Point:
    return Point(step, 0.0, values)


def test_plain_lines_every_ten_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(stream, "lines", clock=clock)
    loop = Loop("", 40)
    console.begin(loop)
    shown = []
    for turn in range(1, 41):
        clock.now += 0.5
        loop.done = turn
        console.take([point(turn, loss=1 / turn)])
        if console.due:
            console.draw()
            shown.append(turn)
    console.end()
    console.close()
    assert shown == [20, 40]
    assert stream.getvalue().splitlines() == [
        "20/40 steps  2.0/s  ETA 0:10  loss 0.05",
        "40/40 steps  2.0/s  loss 0.025",
    ]


def test_two_loops_keep_a_last_line_each_and_forget_each_other_s_values() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(stream, "lines", clock=clock)
    for name, value in (("", "a"), ("b", "c")):
        loop = Loop(name, 2)
        console.begin(loop)
        clock.now += 1
        loop.done = 2
        console.take([point(2, **{value: 1.0})])
        console.end()
    assert stream.getvalue().splitlines() == ["2/2 steps  2.0/s  a 1", "b 2/2 steps  2.0/s  c 1"]


def test_of_many_values_the_six_that_were_logged_first_are_shown() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(stream, "lines", clock=clock)
    loop = Loop("", 3)
    console.begin(loop)
    clock.now += 1
    loop.done = 1
    console.take(
        [point(1, loss=1.0, lr=0.1), Point(1, 0.0, {f"k{at}": 0.0 for at in range(20_000)})]
    )
    loop.done = 3
    console.take([point(3, k0=2.0, k19999=7.0), point(3, loss=0.5)])
    console.end()
    assert stream.getvalue() == (
        "3/3 steps  3.0/s  loss 0.5  lr 0.1  k0 2  k1 0  k2 0  k3 0  … 19,996 more\n"
    )


def test_a_loop_without_a_turn_shows_nothing() -> None:
    for mode in ("lines", "bar"):
        stream = io.StringIO()
        console = Console(stream, mode)  # type: ignore[arg-type]
        console.begin(Loop("", 0))
        console.take([])
        console.end()
        assert stream.getvalue() == ""


def test_none_shows_nothing() -> None:
    stream = io.StringIO()
    console = Console(stream, "none")
    loop = Loop("", 3)
    console.begin(loop)
    loop.done = 3
    console.take([point(3, loss=1.0)])
    assert not console.due
    console.draw()
    console.end()
    assert stream.getvalue() == ""


# --- a terminal -------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A terminal that shows its lines: as far as \\r, \\n and erasing to the end of a line go."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        lines, column = [""], 0
        text = self.getvalue().replace("\x1b[K", "\0")
        for character in text:
            line = lines[-1]
            if character == "\n":
                lines.append("")
                column = 0
            elif character == "\r":
                column = 0
            elif character == "\0":
                lines[-1] = line[:column]
            else:
                lines[-1] = line[:column].ljust(column) + character + line[column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


@contextmanager
def terminal() -> Iterator[Screen]:
    """A screen that is stdout and stderr."""
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        yield screen
        assert sys.stdout is sys.stderr is screen


def test_one_line_that_moves() -> None:
    with terminal() as screen:
        clock = Clock()
        console = Console(screen, "bar", clock=clock)
        loop = Loop("", 4)
        console.begin(loop)
        for turn in range(1, 5):
            clock.now += 1
            loop.done = turn
            console.take([point(turn, loss=1.0)])
            assert console.due
            console.draw()
            assert not console.due
            assert len(screen.lines) == 1
        console.take([])
        assert not console.due  # nothing new
        console.end()
        assert screen.lines == [f"[{'=' * 20}] 4/4 steps  1.0/s  loss 1", ""]


def test_a_name_with_a_newline_leaves_the_line_one() -> None:
    with terminal() as screen:
        clock = Clock()
        console = Console(screen, "bar", clock=clock)
        loop = Loop("", 2)
        console.begin(loop)
        for turn in (1, 2):
            clock.now += 1
            loop.done = turn
            console.take([point(turn, **{"\x1b[31m\n": 1.0})])
            console.draw()
            assert len(screen.lines) == 1
        console.end()
        assert screen.lines == [f"[{'=' * 20}] 2/2 steps  1.0/s  \\x1b[31m\\n 1", ""]


def test_what_others_print_stands_above_the_line() -> None:
    with terminal() as screen:
        clock = Clock()
        console = Console(screen, "bar", clock=clock)
        loop = Loop("", None)
        console.begin(loop)
        for turn in range(1, 4):
            clock.now += 1
            loop.done = turn
            console.draw()
            print("turn", turn)
            if turn == 2:
                print("no newline", end="")
        sys.stderr.write("on stderr\n")
        console.end()
        print("after")
        assert screen.lines == [
            "turn 1", "turn 2", "no newline", "turn 3", "on stderr", "3 steps  1.0/s", "after", "",
        ]  # fmt: skip


def test_a_terminal_that_goes_away_ends_the_show() -> None:
    with terminal():

        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(5, "Input/output error")

        for mode in ("bar", "lines"):
            console = Console(Gone(), mode)  # type: ignore[arg-type]
            loop = Loop("", 3)
            console.begin(loop)
            loop.done = 1
            console.draw()
            assert console.mode == "none"
            loop.done = 2
            console.take([])
            console.draw()
            console.end()
            console.close()


def test_the_streams_behave_as_they_did_while_a_line_is_shown() -> None:
    with terminal() as screen:
        console = Console(screen, "bar")
        loop = Loop("", 3)
        console.begin(loop)
        try:
            stdout: Any = sys.stdout
            assert stdout.isatty()
            assert stdout.write("abc\n") == 4
            assert stdout.getvalue() == screen.getvalue()
            assert ERASE not in screen.getvalue()  # there was no line to erase
            with pytest.raises(AttributeError):
                stdout.nothing  # noqa: B018
        finally:
            console.end()


def test_a_stream_that_the_task_replaced_is_left() -> None:
    with terminal() as screen:
        console = Console(screen, "bar")
        console.begin(Loop("", 3))
        mine = io.StringIO()
        sys.stdout = mine
        console.end()
        assert sys.stdout is mine
        sys.stdout = screen


def test_the_width_is_that_of_the_terminal() -> None:
    import fcntl
    import struct
    import termios

    from crown_exp.tracking.terminal import Foot

    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        with open(follower, "w", closefd=False) as stream:
            assert Foot(stream).width() == 100
            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
            assert Foot(stream).width() == 80
    finally:
        os.close(leader)
        os.close(follower)
    assert Foot(io.StringIO()).width() == 80


# --- bytes that a run waits for ---------------------------------------------------------------------------


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("what", "done", "total", "rate", "shown"),
    [
        ("saving", 0, 2_000_000, 0.0, "saving 0 B of 2.0 MB"),
        (
            "saving",
            312_000_000,
            1_200_000_000,
            222e6,
            "saving 312 MB of 1.2 GB  222 MB/s  ETA 0:04",
        ),
        ("restoring", 10, 10, 5.0, "restoring 10 B of 10 B  5 B/s"),
        ("verifying", 5, 10, -3.0, "verifying 5 B of 10 B"),
    ],
)
def test_what_is_told_of_bytes(what: str, done: int, total: int, rate: float, shown: str) -> None:
    assert told(what, done, total, rate) == shown


def test_bytes_are_shown_while_somebody_waits_longer_than_a_moment() -> None:
    stream, hand = io.StringIO(), Hand()
    transfer = Transfer(Foot(stream), clock=hand)
    transfer.moved("saving", 5, 10)
    with transfer.shown():
        transfer.moved("saving", 0, 10_000_000)
        hand.now += 0.9
        transfer.moved("saving", 4_000_000, 10_000_000)
        assert stream.getvalue() == ""
        hand.now += 0.1
        transfer.moved("saving", 5_000_000, 10_000_000)
        assert stream.getvalue().endswith("saving 5.0 MB of 10 MB  5.0 MB/s  ETA 0:01")
        hand.now += 0.01
        before = stream.getvalue()
        transfer.moved("saving", 6_000_000, 10_000_000)
        assert stream.getvalue() == before
    assert stream.getvalue() == f"{before}{ERASE}"
    transfer.moved("saving", 10_000_000, 10_000_000)
    assert stream.getvalue() == f"{before}{ERASE}"


def test_where_there_is_no_terminal_or_nobody_reads_nothing_is_shown() -> None:
    hand, stream = Hand(), io.StringIO()
    for transfer in (
        Transfer(Foot(stream), on=False, clock=hand), Transfer(Foot(closed()), clock=hand),
    ):  # fmt: skip
        with transfer.shown():
            hand.now += 5
            transfer.moved("saving", 1, 2)
            hand.now += 5
            transfer.moved("saving", 2, 2)
    assert stream.getvalue() == ""


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream
