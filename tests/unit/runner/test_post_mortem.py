"""Where a debugger opens, and that without a terminal a line says that none does."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from crown_exp.errors import TaskError
from crown_exp.runner.ending import Ending, ended_by
from crown_exp.runner.metrics import loggable
from crown_exp.runner.post_mortem import (
    NO_TERMINAL,
    Debugger,
    frames_of,
    is_own,
    own_index,
    own_signals,
    post_mortem,
)


class Typed(io.StringIO):
    """A terminal in which somebody types."""

    def isatty(self) -> bool:
        return True


def raised(what: object) -> Exception:
    """The error of doing something."""
    try:
        what()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError


def within(error: Exception) -> FrameType | None:
    index = own_index(frames_of(error))
    return None if index is None else frames_of(error)[index]


def test_the_innermost_frame_of_the_user_s_code() -> None:
    """Not of the standard library, of an installed package, or ours."""
    import numpy as np

    def mine() -> None:
        local = 1
        json.loads("{") if local else None

    def deeper() -> None:
        loggable("loss", "text")

    def installed() -> None:
        np.testing.assert_equal(1, 2)

    for function in (mine, deeper, installed):
        found = within(raised(function)) if function is not installed else None
        if function is installed:
            try:
                installed()
            except AssertionError as error:
                index = own_index(frames_of(error))
                assert index is not None
                found = frames_of(error)[index]
        assert found is not None
        assert found.f_code is function.__code__


def test_where_no_frame_is_the_user_s() -> None:
    error = TaskError("never raised by anybody")
    assert within(error) is None
    assert post_mortem(error, ended_by(error, 0)) == ended_by(error, 0)


def test_what_counts_as_the_user_s_own() -> None:
    import torch

    assert is_own(__file__)
    assert is_own("/home/me/project/train.py")
    assert is_own("<ipython-input-3-abc>")
    assert not is_own(json.__file__)
    assert not is_own(torch.__file__)
    assert not is_own("<frozen importlib._bootstrap>")
    assert not is_own(sys.modules[TaskError.__module__].__file__ or "")


def test_without_a_terminal_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = raised(lambda: 1 / 0)
    ending = ended_by(error, 3)
    for stdin, stdout in (
        (io.StringIO("q"), Typed()),
        (Typed("q"), io.StringIO()),
        (None, Typed()),
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        made = post_mortem(error, ending)
        assert made.told == f"{ending.told.rstrip()}\n{NO_TERMINAL}"
        assert (made.exit_code, made.error, made.failure) == (1, ending.error, ending.failure)


@pytest.mark.parametrize("typed", ["p local + 1\nq\n", "p local + 1\nc\n", "p local + 1\n"])
def test_the_debugger_opens_at_the_frame_and_the_ending_stays(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def mine() -> None:
        local = 41
        json.loads("{" * local)

    error = raised(mine)
    ending = ended_by(error, 3)
    screen = Typed()
    monkeypatch.setenv("HOME", str(tmp_path))  # no .pdbrc
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys, "stdout", screen)
    made = post_mortem(error, ending)
    assert "42" in screen.getvalue()
    assert "test_post_mortem.py" in screen.getvalue().splitlines()[0]
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert "JSONDecodeError" in said
    assert made == Ending(1, 3, error=ending.error, failure=ending.failure, told="")


def test_what_goes_wrong_in_the_debugger_is_not_the_run_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = raised(lambda: 1 / 0)
    monkeypatch.setattr(sys, "stdin", Typed("q"))
    monkeypatch.setattr(sys, "stdout", Typed())
    monkeypatch.setattr(Debugger, "interaction", lambda *given: 1 / 0)
    assert post_mortem(error, ended_by(error, 3)).exit_code == 1


def test_signals_are_the_debugger_s_and_then_again_whose_they_were(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with own_signals(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    error = raised(lambda: 1 / 0)
    monkeypatch.setattr(sys, "stdin", Typed("q"))
    monkeypatch.setattr(sys, "stdout", Typed())
    ended = []

    def waiting(*given: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        ended.append("not reached")

    monkeypatch.setattr(Debugger, "interaction", waiting)
    assert post_mortem(error, ended_by(error, 3)).exit_code == 1
    assert ended == []
    assert {number: signal.getsignal(number) for number in before} == before
