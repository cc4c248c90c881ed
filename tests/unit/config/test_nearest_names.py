"""Names of any origin in a hint."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.letters import columns
from crown_exp.config.nearest import did_you_mean, either, known_names

NAMES = st.lists(st.text(max_size=300), max_size=20)


def test_a_name_is_harmless_and_cut() -> None:
    assert did_you_mean("los", ["loss\x1b[31m\n"]) == r"did you mean loss\x1b[31m\n?"
    assert did_you_mean("nnn", ["n" * 5000]) == f"did you mean {'n' * 79}…?"
    assert known_names(["b\x07", "a" * 5000]) == f"known: {'a' * 79}…, b\\x07"
    assert either(["a\n", "b", "c\r"]) == r"a\n, b or c\r"


@given(st.text(max_size=20), NAMES)
def test_a_hint_is_one_short_line(typed: str, known: list[str]) -> None:
    for said in (did_you_mean(typed, known), known_names(known)):
        assert said.isprintable()
        assert columns(said) <= 12 * 82 + 40


def test_long_names_are_compared_by_their_beginning() -> None:
    long = "n" * 100_000  # whole, it would be 10^10 comparisons
    assert did_you_mean(long, [f"{long}x"]).startswith("did you mean nnn")
