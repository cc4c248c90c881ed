from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.cli.letters import columns
from crown_exp.cli.table import Cell, Column, painted, table

HEADERS = [Column("id", whole=True), "name", Column("n", right=True)]


def lines(*rows: list[Cell | str], width: int = 80, colour: bool = False) -> list[str]:
    return list(table(HEADERS, rows, width=width, colour=colour))


def test_columns_are_aligned_and_lines_end_without_spaces() -> None:
    assert lines(["r1", "cnn", "5"], ["r22", "a longer one", "120"], ["r3", "", ""]) == [
        "id   name            n",
        "r1   cnn             5",
        "r22  a longer one  120",
        "r3",
    ]


def test_the_widest_column_is_cut_and_the_id_is_not() -> None:
    assert lines(["r261122-k7f3q2", "name " * 30, "12"], width=40)[1] == (
        "r261122-k7f3q2  name name name name…  12"
    )


def test_a_screen_too_narrow_gets_longer_lines_rather_than_no_id() -> None:
    assert lines(["r261122-k7f3q2", "abcdefghij", "123456789"], width=10)[1] == (
        "r261122-k7f3q2  abcde…  12345…"
    )


def test_wide_letters_and_accents_keep_the_columns() -> None:
    _, one, other = lines(["模型", "x", "1"], ["e\u0301", "y", "2"])
    assert one == "模型  x     1"
    assert other == "e\u0301     y     2"


def test_no_cell_breaks_a_line_or_reaches_the_terminal() -> None:
    told = lines(["a\nb", "\x1b[2J", "\u202e"])
    assert told[1] == "a\\nb  \\x1b[2J  \\u202e"


def test_colour_is_beside_the_text_and_takes_no_room() -> None:
    row: list[Cell | str] = [Cell("r1", "bold"), Cell("failed", "red"), "5"]
    plain_line, coloured = lines(row)[1], lines(row, colour=True)[1]
    assert "\x1b" not in plain_line
    assert (
        coloured.replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "") == plain_line
    )
    assert painted("x", "red", on=False) == painted("x", "", on=True) == "x"


def test_no_headers_and_no_rows() -> None:
    assert list(table(["", ""], [["a", "b"]], width=80)) == ["a  b"]
    assert list(table(["", ""], [], width=80)) == []
    assert list(table(["one", "two"], [], width=80)) == ["one  two"]


@given(st.lists(st.lists(st.text(max_size=100), min_size=3, max_size=3), max_size=8))
def test_any_texts_fit_the_screen(rows: list[list[str]]) -> None:
    told = list(table(["a", "b", "c"], rows, width=60))
    assert len(told) == len(rows) + 1
    assert all(columns(line) <= 60 and line.isprintable() for line in told)
