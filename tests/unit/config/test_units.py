"""Intervals as people write them."""

from __future__ import annotations

import pytest

from crown_exp.config.units import (
    Interval,
    parse_best,
    parse_cadence,
    parse_duration,
    parse_interval,
    parse_steps,
)
from crown_exp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500 steps", Interval(steps=500)),
        ("1 step", Interval(steps=1)),
        (" 10Steps ", Interval(steps=10)),
        ("2.0 steps", Interval(steps=2)),
        ("90 s", Interval(seconds=90)),
        ("1.5 minutes", Interval(seconds=90)),
        ("5min", Interval(seconds=300)),
        ("2 hours", Interval(seconds=7200)),
        ("1 day", Interval(seconds=86400)),
        ("3 m", Interval(seconds=180)),
    ],
)
def test_steps_and_durations(text: str, expected: Interval) -> None:
    assert parse_interval(text, "x") == expected


@pytest.mark.parametrize(
    "text",
    ["", "steps", "10", "0 steps", "1.5 steps", "-1 steps", "0 s", "5 ms", "5 fortnights", "1e3 steps", "auto",
     "5 5 s", f"{'9' * 400} s", "٣ steps x"],
)  # fmt: skip
def test_anything_else_names_the_place_and_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_interval(text, "checkpoint.every")
    assert str(caught.value) == (
        f"checkpoint.every: expected something like '500 steps' or '5 minutes', got {text!r}"
    )


def test_auto_is_no_interval() -> None:
    assert parse_cadence(" Auto", "x") is None
    assert parse_cadence("10 steps", "x") == Interval(steps=10)


def test_steps_are_no_time_and_times_are_no_steps() -> None:
    assert parse_steps("1000 steps", "x") == 1000
    assert parse_duration("4 hours", "x") == 14400
    with pytest.raises(ConfigError, match=r"^x: expected something like '1000 steps', got '4 h'$"):
        parse_steps("4 h", "x")
    with pytest.raises(ConfigError, match=r"^x: expected a time such as .*, got '3 steps'$"):
        parse_duration("3 steps", "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max test_accuracy", ("test_accuracy", True)),
        (" min  eval/loss ", ("eval/loss", False)),
    ],
)
def test_the_best_of_a_metric(text: str, expected: tuple[str, bool]) -> None:
    assert parse_best(text, "x") == expected


@pytest.mark.parametrize("text", ["", "max", "accuracy", "best accuracy", "max a b", "maximum a"])
def test_what_names_no_best(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^x: expected max or min and a metric"):
        parse_best(text, "x")
