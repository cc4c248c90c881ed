from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run

ONE, TWO = "r261122-aaaaaa", "r261122-abbbbb"


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    with world(tmp_path, monkeypatch, capsys) as made:
        for run_id in (ONE, TWO):
            made.call(complete_run, made.blobs, run_id)
        yield made


def changes(here: World, run_id: str = ONE) -> list[Path]:
    return sorted((here.runs / run_id).glob("notes/*"))


# --- tags ---------------------------------------------------------------------------------------------


def test_tags_are_given_and_taken_away_and_told(here: World) -> None:
    assert here.out("tag", "aaa", "+paper", "+best") == [
        f"{ONE}  best paper",
        "next: crown-exp runs tag:paper",
    ]
    assert here.out("tag", "-best", "aaa", "+final") == [
        f"{ONE}  final paper",
        "next: crown-exp runs tag:final",
    ]
    assert here.out("tag", "aaa") == [f"{ONE}  final paper", "next: crown-exp runs tag:final"]


def test_several_runs_at_once_and_each_once(here: World) -> None:
    told = here.json("tag", "aaa", "abb", ONE, "+paper")
    assert told == [{"id": ONE, "tags": ["paper"]}, {"id": TWO, "tags": ["paper"]}]
    assert (len(changes(here)), len(changes(here, TWO))) == (1, 1)


def test_all_tags_with_how_many_runs_have_them(here: World) -> None:
    assert here.out("tag") == ["no run has a tag", "next: crown-exp tag <run> +paper"]
    here.out("tag", ONE, TWO, "+paper")
    here.out("tag", TWO, "+best")
    assert here.json("tag") == [{"tag": "paper", "runs": 2}, {"tag": "best", "runs": 1}]
    lines = here.out("tag")
    assert [line.split() for line in lines[:-1]] == [["tag", "runs"], ["paper", "2"], ["best", "1"]]
    assert lines[-1] == "next: crown-exp runs tag:paper"


def test_what_changes_nothing_leaves_nothing(here: World) -> None:
    here.out("tag", "aaa", "+paper")
    assert here.out("tag", "aaa", "+paper", "-draft")[0] == f"{ONE}  paper"
    assert len(changes(here)) == 1
    assert here.out("tag", "abb", "-draft") == [
        f"{TWO}  no tags",
        f"next: crown-exp tag {TWO} +paper",
    ]


def test_tags_and_notes_outlive_the_index(here: World) -> None:
    here.out("tag", "aaa", "+paper", "+älter")
    here.out("note", "aaa", "the", "one")
    here.database.unlink()
    assert here.out("reindex")[0] == "indexed 2 runs"
    assert here.json("tag", "aaa") == [{"id": ONE, "tags": ["paper", "älter"]}]
    assert here.out("note", "aaa")[0] == "the one"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["aaa", "paper"], "paper: no run has this id; a tag is written +paper"),
        (["+paper"], "+paper: is a tag, but of which run?"),
        (["a", "+paper"], f"a: several runs fit: {TWO}, {ONE}"),
        (["aaa", "+a b"], "tag 'a b': expected 1 to 64 printable characters"),
        (["aaa", "+"], "tag '': expected"),
        (["aaa", "+a,b"], "tag 'a,b': expected"),
        (["aaa", f"+{'x' * 65}"], "expected 1 to 64"),
        (["aaa", "+a", "-a"], "+a -a: is both given and taken away"),
        (["aaa", "--add", "paper"], "--add: no such option; expected crown-exp tag RUN"),
    ],
)
def test_a_mistake_is_one_line_and_changes_no_run(here: World, typed: list[str], said: str) -> None:
    assert (
        said in here.refused("tag", "abb", *typed)
        if typed != ["+paper"]
        else said in (here.refused("tag", *typed))
    )
    assert changes(here) == changes(here, TWO) == []


# --- notes --------------------------------------------------------------------------------------------


def test_a_note_is_written_shown_replaced_and_cleared(here: World) -> None:
    assert here.out("note", "aaa") == [
        f"{ONE} has no note",
        f"next: crown-exp note {ONE} <text>",
    ]
    assert here.out("note", "aaa", "better", "than", "all") == [
        "better than all",
        f"next: crown-exp show {ONE}",
    ]
    assert here.json("note", "aaa", "not really") == {"id": ONE, "note": "not really"}
    assert here.json("note", "aaa") == {"id": ONE, "note": "not really"}
    assert here.json("note", "aaa", "--clear") == {"id": ONE, "note": ""}
    assert here.json("note", "abb") == {"id": TWO, "note": ""}


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_a_note_from_standard_input(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "  first\n\nzweite Zeile: ä \x1b[31m\n".encode())
    lines = here.out("note", "aaa", "-")
    assert lines == ["first", "", "zweite Zeile: ä \\x1b[31m", f"next: crown-exp show {ONE}"]
    assert here.json("note", "aaa")["note"] == "first\n\nzweite Zeile: ä \x1b[31m"


def test_a_long_note_is_folded(here: World) -> None:
    words = "word " * 100 + "x" * 200
    assert "".join("".join(here.out("note", "aaa", words)[:-1]).split()) == words.replace(" ", "")


@pytest.mark.parametrize("data", [b"x" * 20_001, b"x" * 10_000_000, "ä".encode() * 5_000_000])
def test_a_note_that_is_too_long_is_refused(
    here: World, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    given(monkeypatch, data)
    said = here.refused("note", "aaa", "-")
    assert "note: has more than 20,000 characters; nothing was changed" in said
    assert changes(here) == []


def test_the_longest_note_is_kept(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "\U0001f600".encode() * 20_000)
    assert here.json("note", "aaa", "-")["note"] == "\U0001f600" * 20_000


@pytest.mark.parametrize(
    ("typed", "data", "said"),
    [
        (["aaa", "-"], b"\xff\xfe", "note: standard input is not UTF-8 text"),
        (["aaa", "-"], b" \n", "note: is empty; --clear takes a note away"),
        (["aaa", ""], b"", "note: is empty"),
        (["aaa", "x", "--clear"], b"", "--clear: takes the note away"),
        (["zzz", "x"], b"", "zzz: no run that is indexed has this id"),
        ([], b"", "Missing argument 'RUN'"),
    ],
)
def test_what_is_no_note_is_one_line(
    here: World, monkeypatch: pytest.MonkeyPatch, typed: list[str], data: bytes, said: str
) -> None:
    given(monkeypatch, data)
    assert said in here.refused("note", *typed)
    assert changes(here) == []
