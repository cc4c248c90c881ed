from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.cli.letters import columns, cut, fold, labelled, plain

ANY = st.text(st.characters())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lr=0.1 grün 模型 عربي", "lr=0.1 grün 模型 عربي"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("abc\u202edef\u2066", "abc\\u202edef\\u2066"),
        ("half \ud800", "half \\ud800"),
        ("a\tb", "a   b"),
        ("x" * 30_000, "x" * 20_000 + "…"),
    ],
)
def test_a_text_of_any_origin_is_one_harmless_line(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(ANY)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert plain(shown) == shown


def test_columns_count_what_a_terminal_takes() -> None:
    assert [columns(text) for text in ("", "abc", "模型", "e\u0301", "é", "…")] == [
        0,
        3,
        4,
        1,
        1,
        1,
    ]


@given(ANY, st.integers(1, 30))
def test_what_is_cut_fits_and_begins_as_it_did(text: str, width: int) -> None:
    text = plain(text)
    found = cut(text, width)
    assert columns(found) <= width
    if found != text:
        assert found.endswith("…") and text.startswith(found[:-1])
        assert columns(text) > width


@given(ANY, st.integers(2, 30))
def test_what_is_folded_fits_and_loses_no_letter(text: str, width: int) -> None:
    lines = fold(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == plain(text).replace(" ", "")


def test_a_label_stands_once_before_a_folded_text() -> None:
    assert list(labelled("  note  ", "one two three", 16)) == ["  note  one two", "        three"]
    assert list(labelled("note ", "", 16)) == []
