from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.cli.ages import age, number, plural, short_age, size, span, took

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told", "short"),
    [
        (0.2, "just now", "now"),
        (45, "45 s ago", "45 s"),
        (3 * 60 + 59, "3 min ago", "3 min"),
        (5 * 3600, "5 h ago", "5 h"),
        (12 * 86400, "12 d ago", "12 d"),
        (200 * 86400, "2026-05-09", "2026-05-09"),
        (-3600, "just now", "now"),
    ],
)
def test_an_age_has_one_unit_and_is_never_negative(seconds: float, told: str, short: str) -> None:
    moment = NOW - timedelta(seconds=seconds)
    assert (age(moment, NOW), short_age(moment, NOW)) == (told, short)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0.0 s"), (0.44, "0.4 s"), (12.6, "12 s"), (65, "1 min 05 s"), (7620, "2 h 07 min"),
        (3 * 86400 + 4 * 3600, "3 d 04 h"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units(seconds: float, told: str) -> None:
    assert took(seconds) == told


@given(st.floats(-1e9, 1e9))
def test_no_time_has_a_minus(seconds: float) -> None:
    assert "-" not in took(seconds) + span(seconds)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"), (980, "980 B"), (1234, "1.2 kB"), (35_400_000_000, "35 GB"), (999_999, "1.0 MB"),
        (9_960, "10 kB"), (12_345 * 10**15, "12,345 PB"),
    ],
)  # fmt: skip
def test_sizes_have_units(count: int, told: str) -> None:
    assert size(count) == told


def test_numbers_and_counts() -> None:
    assert [number(it) for it in (0.1234567, 12, "a", None)] == ["0.123457", "12", "a", "None"]
    assert [plural(it, "run") for it in (0, 1, 1204)] == ["0 runs", "1 run", "1,204 runs"]
