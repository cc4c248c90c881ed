from __future__ import annotations

import io
import json
import math
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.__main__ import guarded
from tests.unit.cli.record import World
from tests.unit.registry.folders import CONFIG, complete_run, make_run

ONE, TWO, THREE = "r261122-aaaaaa", "r261122-abbbbb", "r261122-cccccc"
HEADS = ["id", "name", "state", "age", "step"]


def ago(**past: float) -> datetime:
    return datetime.now(UTC) - timedelta(**past)


@pytest.fixture
def three(here: World) -> World:
    """A run a day old, one of three hours, and one of an hour that has not begun: some while yet."""
    result = {"accuracy": 0.9, "report": "x" * 200, "by": {"digit": 3}}
    here.call(complete_run, here.blobs, ONE, result, created=ago(days=1.1), tags=["paper", "best"])
    here.call(
        complete_run, here.blobs, TWO, {"accuracy": 0.95}, created=ago(hours=3.5),
        user="bob", experiment="cnn", name="cnn lr=0.1",
        config={**CONFIG, "optimizer": {"lr": 0.1}},
    )  # fmt: skip
    here.call(make_run, here.blobs, THREE, created=ago(hours=1.5))
    return here


def ids(here: World, *words: str) -> list[str]:
    return [run["id"] for run in here.json("runs", *words)["runs"]]


def test_runs_are_listed_the_newest_first_with_the_results_they_share(three: World) -> None:
    assert [line.split() for line in three.out("runs")] == [
        [*HEADS, "accuracy", "tags"],
        [THREE, "digits", "planned", "1", "h", "0"],
        [TWO, "cnn", "lr=0.1", "completed", "3", "h", "3", "0.95"],
        [ONE, "digits", "completed", "1", "d", "3", "0.9", "best", "paper"],
        ["next:", "crown-exp", "show", "cccccc,", "or", "crown-exp", "compare", "cccccc", "abbbbb"],
    ]  # fmt: skip


def test_values_are_shown_as_asked(three: World) -> None:
    lines = three.out("runs", "--columns", "lr, min(loss)", "--sort", "lr")
    assert [line.split() for line in lines[:3]] == [
        [*HEADS, "lr", "min(loss)", "tags"],
        [THREE, "digits", "planned", "1", "h", "0", "0.003"],
        [ONE, "digits", "completed", "1", "d", "3", "0.003", "1", "best", "paper"],
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tag:paper"], [ONE]),
        (["--tag", "paper", "--tag", "best"], [ONE]),
        (["state:completed", "age<5h"], [TWO]),
        (["--state", "planned,failed"], [THREE]),
        (["--state", "completed", "--experiment", "digits"], [ONE]),
        (["--age", "5h"], [THREE, TWO]),
        (["--age", "5 hours"], [THREE, TWO]),
        (["--age", "150 min"], [THREE]),
        (["--mine"], [THREE, ONE]),
        (["lr>0.01"], [TWO]),
        (["lr > 0.01"], [TWO]),
        (["min(loss)<=1", "accuracy<0.92"], [ONE]),
        (["name:cnn lr"], [TWO]),
        (["tag:paper state:completed"], [ONE]),
        (["--sort", "accuracy", "--limit", "1"], [ONE]),
        (["--sort", "-accuracy", "--limit", "1"], [TWO]),
        (["--limit", "0"], [THREE, TWO, ONE]),
        (["--limit", "2147483647"], [THREE, TWO, ONE]),
    ],
)  # fmt: skip
def test_runs_are_found_by_terms_and_options(
    three: World, words: list[str], found: list[str]
) -> None:
    assert ids(three, *words) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "faild"], "did you mean failed?"),
        (["--age", "soon"], "--age soon: expected an age like 30m, 12h, 7d"),
        (["--age", "7"], "--age 7: expected an age like 30m, 12h, 7d"),
        (["--age", "5 steps"], "--age 5 steps: expected an age like 30m, 12h, 7d"),
        (["--age", ""], "--age: expected an age like 30m, 12h, 7d"),
        (["--age", "999999999999999d"], "nothing is that old"),
        (["--age", ">7d"], '"age>7d"'),
        (["paper"], "expected terms like tag:paper"),
        (["tags:paper"], "did you mean tag?"),
        (["--columns", "acuracy"], "did you mean accuracy"),
        (["--columns", "mean(loss)"], "mean is not known"),
        (["--sort", "creatd"], "creatd"),
        (["--limit", "-1"], "0<=x<=2147483647"),
        (["--limit", "99999999999999999999"], "0<=x<=2147483647"),
        (["--limt", "1"], "--limit"),
    ],
)
def test_what_is_mistyped_is_one_line(three: World, words: list[str], said: str) -> None:
    assert said in three.refused("runs", *words)


def test_json_has_what_machines_ask_for(here: World) -> None:
    result = {"accuracy": math.nan, "worst": -math.inf, "name": "x\ud800"}
    here.call(complete_run, here.blobs, ONE, result)
    told = here.json("runs", "--columns", "lr,loss")
    (run,) = told.pop("runs")
    assert told == {"more": False, "total": 1, "left": 0}
    assert run["id"] == ONE
    assert run["experiment"] == run["name"] == "digits"
    assert (run["user"], run["status"], run["attempt"], run["step"]) == ("ada", "completed", 1, 3)
    assert run["signature"] == "v1:0123456789ab"
    assert run["result"]["accuracy"] == "nan" and run["result"]["worst"] == "-inf"
    assert run["cost"] is None
    assert run["created"] == "2026-11-22T10:00:00.000000Z"
    assert run["config"] == CONFIG
    assert run["values"] == {"lr": 0.003, "loss": 1.0}


def test_json_without_runs_is_an_empty_list(here: World) -> None:
    assert here.json("runs") == {"runs": [], "more": False, "total": 0, "left": 0}


def test_an_empty_store_says_what_to_type(here: World) -> None:
    assert here.out("runs") == ["no runs yet", "next: python -m crown_exp +experiment=<name>"]
    folder = here.root / "conf/experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").touch()
    assert here.out("runs")[-1] == "next: python -m crown_exp +experiment=mine"
    (here.root / "pyproject.toml").unlink()
    assert here.out("runs")[-1] == "next: crown-exp init <directory>"


def test_nothing_that_fits_is_said(three: World) -> None:
    assert three.out("runs", "tag:none") == ["no run fits", "next: crown-exp runs"]


def test_what_a_page_leaves_out_is_said(three: World) -> None:
    lines = three.out("runs", "--limit", "1")
    assert lines[-2] == "1 of 3: --limit 2 shows more, --limit 0 all"
    assert lines[-1] == "next: crown-exp show cccccc"
    lines = three.out("runs", "--limit", "1", "--state", "completed")
    assert lines[-2].startswith("1, there are more: ")


def test_names_of_any_letters_neither_break_lines_nor_reach_the_terminal(here: World) -> None:
    for number, name in enumerate(
        ("a\nb", "\x1b[2J", "模型" * 60, "\u202eevil", "شبكة", "é" * 300)
    ):
        here.call(complete_run, here.blobs, f"r261122-aaaaa{number}", name=name, tags=["模\n型"])
    lines = here.out("runs")
    assert len(lines) == 8
    assert all(line.isprintable() for line in lines)
    assert "a\\nb" in "".join(lines)
    assert all(line.startswith("r261122-aaaaa") for line in lines[1:7])


def test_a_clock_that_was_set_back_makes_no_age_negative(here: World) -> None:
    here.call(complete_run, here.blobs, ONE, created=ago(hours=-5))
    assert here.out("runs")[1].split()[3] == "now"


def test_a_run_whose_folder_is_gone_is_no_longer_listed(three: World) -> None:
    assert len(three.out("runs")) == 5
    shutil.rmtree(three.runs / TWO)
    assert ids(three) == [THREE, ONE]


def test_a_run_that_cannot_be_read_is_said_and_the_others_are_listed(three: World) -> None:
    (three.runs / TWO / "run.json").write_text("{")
    code, out, err = three.type("runs")
    assert code == 0
    assert (err.count("\n"), TWO in err, ONE in out) == (1, True, True)


def test_of_many_problems_the_first_are_said(three: World) -> None:
    for number in range(8):
        here = three.runs / f"r261122-eeeee{number}"
        here.mkdir()
        (here / "run.json").write_text("{")
    code, out, err = three.type("runs")
    assert (code, err.count("\n"), ONE in out) == (0, 6, True)
    assert err.endswith("... and 3 more of these; `crown-exp reindex` says them all\n")


def test_a_registry_that_is_no_database_is_one_line(three: World) -> None:
    three.database.parent.mkdir()
    three.database.write_bytes(b"x" * 5000)
    assert "crown-exp reindex" in three.refused("runs", code=80)


@pytest.mark.parametrize("readable", [True, False])
def test_a_store_that_is_away_leaves_what_is_known(three: World, readable: bool) -> None:
    assert len(three.out("runs")) == 5
    three.runs.rename(three.root / "away")
    if not readable:
        three.runs.symlink_to(three.runs)  # a loop
    code, out, err = three.type("runs")
    assert (code, err.count("\n"), ONE in out) == (0, 1, True)
    assert ("is it mounted?" if readable else "what follows was known before") in err


def test_the_words_are_coloured_on_a_terminal_unless_asked_not_to(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stdout", stream := Terminal())
        assert guarded(["runs"]) == 0
        assert ("\x1b[32mcompleted\x1b[0m" in stream.getvalue()) is coloured


def test_the_width_is_that_of_columns(three: World, monkeypatch: pytest.MonkeyPatch) -> None:
    three.call(complete_run, three.blobs, "r261122-dddddd", name="long " * 40)
    monkeypatch.setenv("COLUMNS", "120")
    guarded(["runs"])
    out = three.capture.readouterr().out
    assert max(map(len, out.splitlines())) == 120


def test_an_encoding_without_the_letters_loses_no_json(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.call(complete_run, here.blobs, ONE, name="模型")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", errors="replace"))
    assert guarded(["runs", "--json"]) == 0
    sys.stdout.flush()
    assert json.loads(raw.getvalue())["runs"][0]["name"] == "模型"


def test_outside_of_a_project_asking_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROWN_HOME", raising=False)
    for word in ("runs", "show", "prune"):
        assert guarded([word]) == 2
        said = capsys.readouterr().err
        assert "no project is here or above" in said
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
