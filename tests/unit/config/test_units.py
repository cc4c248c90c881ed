"""Intervals as people write them."""

from __future__ import annotations

import pytest

from crown_exp.config.units import Interval, parse_interval
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
