from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.cli.letters import columns
from crown_exp.cli.plot import Series, legend, plot


def drawn(*series: Series, **options: object) -> list[str]:
    return list(plot(series, **({"width": 40, "unicode": False} | options)))  # type: ignore[arg-type]


def test_a_line_rises_between_its_least_and_its_greatest() -> None:
    assert drawn(Series("loss", [0, 1, 2, 3], [0, 1, 2, 3]), width=7, height=4) == [
        "3     *",
        "     *",
        "    *",
        "0  *",
        "   step 0 3",
    ]


def test_the_first_and_the_last_step_stand_in_the_corners() -> None:
    told = drawn(Series("loss", [10, 500], [1.0, 2.0]))
    assert told[0].split() == ["2", "*****"] or told[0].startswith("2")
    assert told[-1].split() == ["step", "10", "500"]
    assert told[-2].startswith("1")
    assert len(told[-1]) == 40


def test_braille_has_eight_dots_to_a_letter() -> None:
    (one, steps) = drawn(Series("a", [1, 2], [5.0, 5.0]), width=6, height=3, unicode=True)
    assert one == "5  ⠤⠤⠤"
    assert steps.startswith("   step 1")


def test_positive_values_far_apart_are_drawn_on_a_logarithmic_scale() -> None:
    falling = Series("loss", [0, 1, 2, 3], [1000, 100, 10, 1])
    told = drawn(falling, width=30, height=4)
    assert "log scale" in told[-1]
    assert [line.count("*") > 0 for line in told[:4]] == [True] * 4
    assert "log scale" not in drawn(Series("loss", [0, 1], [-1, 1000]))[-1]
    assert "log scale" not in drawn(Series("loss", [0, 1], [1, 50]))[-1]


def test_what_is_not_finite_is_left_out() -> None:
    values = [1.0, math.nan, math.inf, 2.0]
    assert drawn(Series("a", [1, 2, 3, 4], values)) == drawn(Series("a", [1, 4], [1.0, 2.0]))
    assert drawn(Series("a", [1], [math.nan])) == []
    assert drawn(Series("a", [], [])) == []
    assert drawn() == []


def test_one_point_is_a_dot() -> None:
    assert [line.rstrip() for line in drawn(Series("a", [7], [3.0]))] == [
        f"3  {' ' * 18}*",
        "   step 7",
    ]


def test_several_curves_are_told_apart_by_letter_or_colour() -> None:
    series = [Series("one", [1, 2], [1, 1]), Series("two", [1, 2], [2, 2])]
    told = drawn(*series)
    assert "+" in told[0] and "*" in told[5]
    assert legend(["one", "two\n"], unicode=False) == "* one   + two\\n"
    coloured = drawn(*series, colour=True, unicode=True)
    assert "\x1b[33m" in coloured[0] and "\x1b[36m" in coloured[5]
    assert "\x1b[33m" in legend(["one", "two"], colour=True)


FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, max_size=30), st.integers(1, 100), st.booleans())
def test_any_values_fit_the_screen(values: list[float], width: int, unicode: bool) -> None:
    told = drawn(Series("a", range(len(values)), values), width=width, unicode=unicode)
    assert len(told) in (0, 2, 7)
    assert bool(told) == any(map(math.isfinite, values))
    assert all(columns(line) <= max(width, 32) and line == line.rstrip() for line in told)
