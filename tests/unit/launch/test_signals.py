"""Ctrl-C and SIGTERM around the making of a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from crown_exp.launch.signals import held_back, told

came: list[int] = []


@pytest.fixture(autouse=True)
def noted() -> Iterator[None]:
    """Both signals are only noted while a test runs."""
    came.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end(number: int) -> None:
    with held_back() as held:
        send(number)
        assert held.asked() and not came
    assert came == [number]


def test_a_second_one_does_not_wait() -> None:
    with held_back():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert came == [signal.SIGINT]


def test_it_is_handled_whatever_went_wrong_meanwhile() -> None:
    with pytest.raises(KeyError), held_back():
        send(signal.SIGINT)
        raise KeyError
    assert came == [signal.SIGINT]


def test_without_a_signal_nothing_happens() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with held_back() as held:
        assert signal.getsignal(signal.SIGINT) is not handler
    assert not held.asked() and not came
    assert signal.getsignal(signal.SIGINT) is handler


def test_words_come_before_who_would_have_handled_it(capfd: pytest.CaptureFixture[str]) -> None:
    with told(lambda: "r1 waits\n"):
        send(signal.SIGINT)
        assert came == [signal.SIGINT]
    send(signal.SIGINT)
    assert capfd.readouterr().err == "r1 waits\n"
