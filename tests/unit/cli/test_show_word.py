from __future__ import annotations

import json
import math
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from crown_exp.config.schema import defaults
from crown_exp.folder import EndRecord, segment
from crown_exp.storage.runs import write_end
from tests.running import merged
from tests.unit.cli.record import World
from tests.unit.registry.folders import T0, Folder, complete_run, make_run

ONE, TWO = "r261122-aaaaaa", "r261122-abbbbb"
CONFIG = merged(defaults(), {"seed": 3, "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1}})


@pytest.fixture
def one(here: World) -> Folder:
    run: Folder = here.call(
        complete_run, here.blobs, ONE, config=CONFIG, seed=3,
        overrides=["+experiment=digits", "optimizer.lr=0.1", "seed=3"],
        sweep={"id": "s-abc", "number": 7, "of": 40}, tags=["paper"],
        code={"commit": "c0ffee" * 6, "dirty": True, "snapshot": "5" * 64},
    )  # fmt: skip
    return run


def section(lines: list[str], name: str) -> list[list[str]]:
    """The words of the lines below a title."""
    start = next(at for at, line in enumerate(lines) if line.split(" ")[0] == name) + 1
    found = []
    for line in lines[start:]:
        if not line.startswith(" "):
            break
        found.append(line.split())
    return found


def log(here: World, run: Folder, records: list[Any], attempt: int = 1) -> None:
    here.call(run.log, [records], attempt)


def test_a_run_is_shown_from_its_head_to_what_to_type_next(here: World, one: Folder) -> None:
    lines = here.out("show", "aaa")
    assert lines[0] == f"{ONE}  digits  completed"
    facts = {words[0]: words[1:] for words in map(str.split, lines[1:]) if len(words) > 1}
    assert facts["sweep"] == ["run", "7", "of", "40,", "s-abc"]
    assert facts["signature"] == ["0123456789ab,", "seed", "3"]
    assert facts["code"] == ["c0ffeec0ffee", "with", "changes"]
    assert facts["typed"] == ["+experiment=digits", "optimizer.lr=0.1", "seed=3"]
    assert facts["tags"] == ["paper"]
    assert facts["made"][-9:] == ["by", "ada,", "took", "30", "min", "00", "s,", "3", "steps"]
    assert facts["folder"][0] == f"store/runs/{ONE}"
    assert section(lines, "config") == [
        ["seed", "3", "typed"],
        ["optimizer._target_", "torch.optim.AdamW"],
        ["optimizer.lr", "0.1", "typed"],
    ]
    heads, first = section(lines, "attempts")
    assert heads == ["#", "host", "started", "took", "device", "memory", "steps", "ended"]
    assert (first[:2], first[-2:]) == (["1", "box"], ["0-3", "completed"])
    assert section(lines, "result") == [["accuracy", "0.9"]]
    assert section(lines, "metrics")[1] == ["loss", "1", "1", "@3", "3", "@1", "3"]
    assert section(lines, "loss")[-1] == ["step", "1", "3"]
    assert lines[-1] == "next: crown-exp runs experiment:digits"


@pytest.mark.parametrize("typed", [ONE, "r261122-aa", "AAAAAA", "aaaa"])
def test_a_run_is_found_by_what_its_id_begins_with(here: World, one: Folder, typed: str) -> None:
    assert here.json("show", typed)["id"] == ONE


def test_what_fits_no_run_or_several_is_one_line(here: World, one: Folder) -> None:
    assert "no run that is indexed" in here.refused("show", "zzz")
    here.call(complete_run, here.blobs, TWO)
    assert f"{TWO}, {ONE}" in here.refused("show", "a")


def test_without_a_run_it_is_the_newest(here: World) -> None:
    assert "latest: there is no run yet" in here.refused("show")
    here.call(complete_run, here.blobs, ONE)
    here.call(complete_run, here.blobs, TWO, created=T0 + timedelta(days=1))
    assert here.json("show")["id"] == here.json("show", "latest")["id"] == TWO


def test_a_run_whose_folder_was_deleted_is_said_to_be_gone(here: World, one: Folder) -> None:
    here.call(complete_run, here.blobs, TWO)
    here.out("runs")
    shutil.rmtree(here.runs / ONE)
    assert f"{ONE}: is gone" in here.refused("show", "aaa")
    assert "no run that is indexed" in here.refused("show", "aaa")
    (here.runs / TWO / "run.json").unlink()  # the folder is left
    assert TWO in here.refused("show", "abb")


def test_a_failed_run_shows_its_error_and_where_the_rest_is(here: World) -> None:
    run = here.call(make_run, here.blobs, ONE, name="x")
    here.call(run.attempt)
    error: Any = {
        "type": "ValueError",
        "message": "bad\n\x1b[31mlabel",
        "traceback": "Traceback\n  …",
    }
    ended = T0 + timedelta(hours=2)
    end = EndRecord(ONE, 1, ended, 1, 4, "ValueError: bad", error, None)
    here.call(write_end, here.blobs, end)
    lines = here.out("show", "aaa")
    assert lines[0].endswith("failed")
    assert "  error      ValueError: bad\\n\\x1b[31mlabel" in lines
    assert "  traceback  crown-exp logs aaaaaa --last 1" in lines
    assert lines[-1] == "next: crown-exp logs aaaaaa --last 1"


def test_a_run_that_goes_on_and_one_that_has_not_begun(here: World) -> None:
    run = here.call(make_run, here.blobs, ONE)
    lines = here.out("show", "aaa")
    assert lines[0].endswith("planned")
    assert "attempts" not in lines
    here.call(run.attempt)
    log(here, run, [segment.event(datetime.now(UTC).timestamp(), "beat", {})])
    lines = here.out("show", "aaa")
    assert lines[0].endswith("running")
    assert lines[-1] == "next: crown-exp logs -f aaaaaa"


def test_equal_runs_are_named(here: World, one: Folder) -> None:
    here.call(complete_run, here.blobs, TWO)
    lines = here.out("show", "aaa")
    assert f"  equal      {TWO} (the same signature)" in lines
    assert lines[-1] == "next: crown-exp compare aaaaaa abbbbb"


def test_an_override_that_brought_a_value_along_is_named(here: World) -> None:
    typed = ["seed=null", "optimizer={lr: 0.1}", "optimizer._target_=torch.optim.AdamW"]
    here.call(complete_run, here.blobs, ONE, config=CONFIG, overrides=typed)
    origins = here.json("show", "aaa")["origins"]
    assert origins == {
        "seed": "seed=null",
        "optimizer.lr": "optimizer={lr: 0.1}",
        "optimizer._target_": "typed",
    }


def test_files_are_named_where_they_give_the_same_value_today(here: World) -> None:
    folder = here.root / "conf/optimizer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: torch.optim.AdamW\nlr: 0.1\neps: 1e-8\n")
    config = merged(CONFIG, {"optimizer": {"eps": 1e-6}})
    typed = ["optimizer=mine", "seed=3"]
    here.call(complete_run, here.blobs, ONE, config=config, overrides=typed)
    lines = section(here.out("show", "aaa", "--origins"), "config")
    told = {words[0]: " ".join(words[2:]) for words in lines}
    assert told == {
        "seed": "typed",
        "optimizer._target_": "conf/optimizer/mine.yaml:1",
        "optimizer.lr": "conf/optimizer/mine.yaml:2",
        "optimizer.eps": "as recorded; today's files say 1e-08",
    }


def test_overrides_that_compose_no_more_are_said(here: World) -> None:
    here.call(
        complete_run, here.blobs, ONE, config=CONFIG, overrides=["+experiment=gone", "seed=3"]
    )
    code, out, err = here.type("show", "aaa", "--origins")
    assert (code, err.count("\n")) == (0, 1)
    assert "do not compose any more" in err
    assert ["seed", "3", "typed"] in section(out.splitlines(), "config")


def test_json_has_all_of_it(here: World, one: Folder) -> None:
    here.call(one.store.put, f"{one.paths.files}3/samples.png", b"x" * 10)
    told = here.json("show", "aaa", "--metric", "loss")
    assert (told["id"], told["status"], told["cost"]) == (ONE, "completed", None)
    assert told["config"]["optimizer"]["lr"] == 0.1
    assert told["attempts"][0]["started"] == "2026-11-22T11:00:00.000000Z"
    assert told["metrics"]["loss"]["min_step"] == 3
    assert told["files"] == [{"path": "3/samples.png", "step": 3, "bytes": 10, "kind": "image"}]
    assert told["curve"]["steps"] == [1, 2, 3] and told["curve"]["values"] == [3.0, 2.0, 1.0]


def test_a_metric_is_drawn_as_asked(here: World, one: Folder) -> None:
    log(here, one, [segment.point(step, 1e9, {"b": step, "nan": math.nan}) for step in (1, 2)], 2)
    assert section(here.out("show", "aaa", "--metric", "b"), "b")[-1] == ["step", "1", "2"]
    assert "did you mean loss?" in here.refused("show", "aaa", "--metric", "los")
    assert here.json("show", "aaa", "--metric", "nan")["curve"]["values"] == ["nan", "nan"]
    assert here.out("show", "aaa", "--metric", "nan")[-3:-1] == ["nan", "  nothing but nan"]


def test_twenty_thousand_metrics_leave_the_page_a_page(here: World) -> None:
    run = here.call(make_run, here.blobs, ONE)
    here.call(run.attempt)
    points = [
        segment.point(n, 1e9, {f"key/{n}": 1.0, "loss": 1.0 / (n + 1)}) for n in range(20_000)
    ]
    here.call(run.log, [points[at : at + 1000] for at in range(0, len(points), 1000)])
    here.call(run.end)
    lines = here.out("show", "aaa")
    assert len(lines) < 70
    assert any("more: --json, or one by --metric NAME" in line for line in lines)
    assert section(lines, "metrics")[1][0] == "loss"
    assert section(lines, "loss")[-1][-1] == "19999"


def test_texts_of_any_length_and_many_of_anything_are_cut(here: World) -> None:
    result = {"report": "x" * 10_000_000} | {f"value{n}": n for n in range(50)}
    config = merged(CONFIG, {"model": {f"key{n}": "模" * 50 for n in range(200)}})
    run = here.call(complete_run, here.blobs, ONE, result, config=config, name="模" * 200)
    for n in range(30):
        here.call(here.blobs.put, f"{run.paths.files}{n}/a.txt", b"x")
    for n in range(2, 30):
        here.call(run.attempt, n)
        here.call(run.end, n)
    log(here, run, [segment.event(1e9 + n, "odd", {"text": "y" * 5000}) for n in range(9)], 2)
    here.out("note", "aaa", "z" * 3000)
    lines = here.out("show", "aaa")
    assert len(lines) < 170
    assert sum("more: --json" in line for line in lines) == 3
    assert any("and 21 earlier" in line for line in lines)
    assert any("and 4 more: crown-exp logs aaaaaa" in line for line in lines)


def test_a_config_that_cannot_be_read_is_said(here: World, one: Folder) -> None:
    (here.runs / ONE / "config.yaml").write_text("[")
    code, out, err = here.type("show", "aaa")
    assert (code, "config.yaml" in err) == (0, True)
    assert "  cannot be read" in out.splitlines()
    assert here.type("show", "aaa", "--json")[0] == 0


def test_a_clock_that_was_set_back(here: World) -> None:
    run = here.call(make_run, here.blobs, ONE, created=datetime.now(UTC) + timedelta(days=3))
    here.call(run.attempt)
    here.call(write_end, here.blobs, EndRecord(ONE, 1, T0, 75, 4, "", None, None))
    lines = here.out("show", "aaa")
    assert any("just now by ada, took 0.0 s" in line for line in lines)


def test_the_record_of_the_schema_is_no_news(here: World) -> None:
    here.call(complete_run, here.blobs, ONE, config=defaults(), overrides=["debug=false"])
    assert not any(line.startswith("config") for line in here.out("show", "aaa"))


def test_a_copy_of_a_real_config_is_read_back_whole(here: World, one: Folder) -> None:
    recorded = yaml.safe_load((here.runs / ONE / "config.yaml").read_text())
    assert here.json("show", "aaa")["config"] == json.loads(json.dumps(recorded))
