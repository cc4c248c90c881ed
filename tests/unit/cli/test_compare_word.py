from __future__ import annotations

import math
import shutil
import subprocess
from typing import Any

import pytest

from crown_exp.compute.code import snapshot
from crown_exp.folder.records import CodeState
from crown_exp.launch.submit import write_code
from tests.unit.cli.record import World
from tests.unit.registry.folders import CONFIG, complete_run, make_run

ONE, TWO, THREE = "r261122-aaaaaa", "r261122-abbbbb", "r261122-cccccc"


def make(here: World, run_id: str, lr: float = 0.003, **changes: Any) -> None:
    """A completed run of the project's code as it is now."""
    code = snapshot(here.root, [here.root / "store", here.root / "home"], {})
    state = CodeState(commit=code.commit, dirty=code.dirty, snapshot=code.digest)
    config = CONFIG | {"optimizer": {"lr": lr}}
    run = here.call(complete_run, here.blobs, run_id, code=state, config=config, **changes)
    here.call(write_code, here.blobs, run.paths, code, lambda: False)


def section(lines: list[str], name: str) -> list[list[str]]:
    start = lines.index(name) + 1
    found = []
    for line in lines[start:]:
        if not line.startswith(" "):
            break
        found.append(line.split())
    return found


def test_two_runs_stand_beside_each_other(here: World) -> None:
    make(here, ONE, result={"accuracy": 0.123456789, "epoch": 3})
    make(here, TWO, 0.1, result={"accuracy": 0.5}, losses=(4.0, math.nan, 0.5, 9.0))
    lines = here.out("compare", "aa", "ab")
    assert [line.split()[:2] for line in lines[1:3]] == [[ONE, "digits"], [TWO, "digits"]]
    assert section(lines, "config") == [["aaaaaa", "abbbbb"], ["optimizer.lr", "0.003", "0.1"]]
    assert section(lines, "code")[0][:3] == ["the", "same:", "no"]
    assert section(lines, "results") == [
        ["aaaaaa", "abbbbb"],
        ["accuracy", "0.123457", "0.5"],
        ["epoch", "3", "-"],
    ]
    assert section(lines, "metrics")[1:] == [
        ["loss", "last", "1", "9"],
        ["loss", "min", "1", "0.5"],
        ["loss", "max", "3", "9"],
    ]
    curves = section(lines, "loss")
    assert curves[0] == ["*", "aaaaaa", "+", "abbbbb"]
    assert curves[-1] == ["step", "1", "4"]
    assert lines[-1] == "next: crown-exp show aaaaaa"


def test_more_than_three_runs_are_rows(here: World) -> None:
    names = [f"r261122-{letter * 6}" for letter in "abcdefg"]
    for number, run_id in enumerate(names):
        result = {f"result{n:02}": number + n for n in range(12)}
        make(here, run_id, number / 10, result=result)
    lines = here.out("compare", *names)
    assert section(lines, "config")[:2] == [["lr"], ["aaaaaa", "0.0"]]
    results = section(lines, "results")
    assert len(results) > 8 and len(results) % 8 == 0  # in blocks, as the screen is too narrow
    assert results[7] == ["gggggg", *(str(6 + n) for n in range(len(results[7]) - 1))]
    assert section(lines, "loss")[0][1::2] == [f"{letter * 6}" for letter in "abcde"]


def test_runs_of_different_experiments(here: World) -> None:
    make(here, ONE)
    make(here, TWO, experiment="other", signature="v1:ffff", losses=())
    lines = here.out("compare", "aa", "ab")
    assert lines[3] == "these are runs of different experiments"
    assert "loss" not in lines  # one curve is no comparison


def test_equal_configs_are_said(here: World) -> None:
    make(here, ONE)
    make(here, TWO)
    lines = here.out("compare", "aa", "ab")
    assert lines[3].startswith("they have the same signature")
    assert section(lines, "config") == [["the", "same"]]


def test_code_that_differs_is_told_by_file_with_lines(here: World) -> None:
    (here.root / "train.py").write_text("one\ntwo\nthree\n")
    make(here, ONE)
    (here.root / "train.py").write_text("one\n2\nthree\nfour\n")
    (here.root / "new.py").write_text("x\n")
    make(here, TWO)
    make(here, THREE)
    lines = here.out("compare", "aa", "ab", "cc")
    told = [" ".join(words) for words in section(lines, "code")]
    assert sum("2 files, +3 -1" in line for line in told) == 2
    assert told.count("train.py +2 -1") == told.count("new.py +1 -0") == 2
    assert "imported are the same" in told[-1]
    found = here.json("compare", "aa", "ab")
    assert found["same_code"] is False
    assert found["code"][0]["run"] == TWO
    assert found["code"][0]["difference"]["files"] == [
        {"path": "new.py", "added": 1, "removed": 0},
        {"path": "train.py", "added": 2, "removed": 1},
    ]


def test_code_of_two_commits_is_compared_by_git(here: World) -> None:
    def git(*words: str) -> None:
        options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *options, *words], cwd=here.root, check=True, capture_output=True)

    git("init", "-q")
    (here.root / ".gitignore").write_text("home\nstore\n")
    (here.root / "train.py").write_text("one\ntwo\n")
    git("add", ".")
    git("commit", "-qm", "one")
    make(here, ONE)
    (here.root / "train.py").write_text("one\n")
    git("commit", "-qam", "two")
    (here.root / "train.py").write_text("one\nthree\n")
    make(here, TWO)
    words = section(here.out("compare", "aa", "ab"), "code")
    assert ["train.py", "+1", "-1"] in words
    shutil.rmtree(here.root / ".git")
    told = " ".join(" ".join(words) for words in section(here.out("compare", "aa", "ab"), "code"))
    assert "1 file with other changes (the commits are not both here)" in told


@pytest.mark.parametrize("damage", ["gone", "archive"])
def test_code_that_cannot_be_read_is_said(here: World, damage: str) -> None:
    make(here, ONE)
    (here.root / "train.py").write_text("x")
    make(here, TWO)
    if damage == "gone":
        shutil.rmtree(here.runs / ONE / "code")
    else:
        (here.runs / ONE / "code/untracked.tar.gz").write_bytes(b"no archive")
    told = " ".join(" ".join(words) for words in section(here.out("compare", "aa", "ab"), "code"))
    assert ("is not in their folders" if damage == "gone" else "is damaged") in told


def test_runs_without_a_record_of_their_code(here: World) -> None:
    here.call(complete_run, here.blobs, ONE)
    make(here, TWO)
    words = section(here.out("compare", "aa", "ab"), "code")
    assert words == [["no", "record", "of", "the", "code", "of", "aaaaaa"]]


def test_runs_that_have_nothing_yet(here: World) -> None:
    here.call(make_run, here.blobs, ONE)
    here.call(make_run, here.blobs, TWO)
    lines = here.out("compare", "aa", "ab")
    assert not {"results", "metrics", "loss"}.intersection(lines)


def test_json_has_an_entry_for_each_run(here: World) -> None:
    make(here, ONE, result={"accuracy": math.nan})
    make(here, TWO, 0.1, losses=())
    told = here.json("compare", "aa", "ab")
    assert [run["id"] for run in told["runs"]] == [ONE, TWO]
    assert told["config"] == {"optimizer.lr": ["0.003", "0.1"]}
    assert told["results"]["accuracy"] == [".nan", "0.9"]
    assert told["metrics"]["loss"][0]["min"] == 1.0 and told["metrics"]["loss"][1] is None
    assert (told["same_code"], told["code"]) == (True, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aa"], "expected two runs or more"),
        ([], "expected two runs or more"),
        (["aa", "aa"], "expected two runs or more"),
        (["aa", "zz"], "no run that is indexed has this id"),
        (["a", "aa"], "several runs fit"),
        (["aa", "ab", "--metric", "los"], "did you mean loss?"),
    ],
)
def test_what_cannot_be_compared_is_one_line(here: World, words: list[str], said: str) -> None:
    make(here, ONE)
    make(here, TWO)
    assert said in here.refused("compare", *words)


def test_names_and_values_of_any_letters(here: World) -> None:
    for number, run_id in enumerate((ONE, TWO, THREE, "r261122-dddddd")):
        config = {f"k\x1b{n}": f"模型\n{number}" * 60 for n in range(60)}
        result = {"\u202etext": "y" * 100_000 + str(number)}
        here.call(complete_run, here.blobs, run_id, result, config=config, name="模\n" * 100)
    for words in (["aa", "ab"], ["aa", "ab", "cc"], ["aa", "ab", "cc", "dd"]):
        lines = here.out("compare", *words)
        assert all(line.isprintable() for line in lines)
        assert any("and 20 more: --json" in line for line in lines)
