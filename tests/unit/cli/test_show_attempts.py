"""`show` and `runs` of a run that was killed, resumed, stopped or forked: the story of its attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crown_exp.folder import AttemptRecord, EndRecord, encode
from crown_exp.folder.segment import event, point
from crown_exp.storage.runs import write_end
from tests.unit.cli.record import World
from tests.unit.registry.folders import T0, Folder, complete_run, make_run

ONE, TWO = "r261122-aaaaaa", "r261122-abbbbb"


def begin(here: World, run: Folder, number: int, records: list[Any], **changes: Any) -> None:
    """An attempt with its log; its record is there already for the first."""
    record = AttemptRecord(
        run.id, number, T0 + timedelta(hours=number), "box", 42, 7.5, "boot", None,
        {"device": "cpu"}, {}, **changes,
    )  # fmt: skip
    here.call(run.store.put, run.paths.attempt(number), encode(record))
    here.call(run.log, [records], number)


def resumed(step: int, lost: int = 0, **more: Any) -> Any:
    data = {
        "step": step,
        "lost": lost,
        "checkpoint": f"000001-{step:012}",
        "damaged": [],
        "numerics": {},
    }
    return event(1e9, "resumed", data | more)


def saved(step: int) -> Any:
    return event(
        T0.timestamp(), "saved", {"step": step, "bytes": 1_200_000, "seconds": 0.1, "stall": 0.0}
    )


def end(here: World, run: Folder, number: int, code: int, step: int, reason: str) -> None:
    ended = T0 + timedelta(hours=number, minutes=30)
    error: Any = {"type": "E", "message": "no", "traceback": "..."} if code in (1, 79) else None
    here.call(
        write_end, here.blobs, EndRecord(run.id, number, ended, code, step, reason, error, None)
    )


def told(here: World) -> list[str]:
    """What is said of the attempts."""
    lines = here.out("show", "aaa")
    start = lines.index("attempts") + 1
    rest = lines[start:]
    return rest[: next(at for at, line in enumerate(rest) if not line.startswith(" "))]


@pytest.fixture
def one(here: World) -> Folder:
    run: Folder = here.call(make_run, here.blobs, ONE)
    begin(
        here,
        run,
        1,
        [*(point(step, 1e9, {"loss": 1.0}) for step in range(1, 76)), saved(30), saved(60)],
    )
    return run


def test_each_attempt_says_from_where_to_where_it_came_and_what_was_lost(
    here: World, one: Folder
) -> None:
    begin(here, one, 2, [resumed(60, 15)], changes={"device.workers": 2})
    end(here, one, 2, 75, 100, "asked to stop (SIGTERM)")
    begin(here, one, 3, [resumed(100)])
    end(here, one, 3, 130, 120, "interrupted by the user")
    lines = told(here)
    rows = [line.split() for line in lines[:4]]
    assert rows[0] == ["#", "host", "started", "took", "device", "memory", "steps", "ended"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert [row[-2:] for row in rows[1:]] == [
        ["0-75", "lost"], ["60-100", "preempted"], ["100-120", "stopped"]
    ]  # fmt: skip
    assert lines[4:] == [
        "  attempt 2  went on from step 60, 15 steps done again",
        "             with device.workers=2",
        "             preempted: asked to stop (SIGTERM)",
        "  attempt 3  went on from step 100",
    ]
    lines = here.out("show", "aaa")
    assert lines[0].endswith("stopped")
    assert "  why        interrupted by the user (exit code 130)" in lines
    assert lines[-1] == "next: crown-exp resume aaaaaa"


def test_it_is_said_where_bit_equality_ends_and_which_checkpoints_were_damaged(
    here: World, one: Folder
) -> None:
    damaged = ["checkpoint 000001-000000000060: pack 1f is missing; it was set aside"]
    begin(here, one, 2, [resumed(30, 45, damaged=damaged, numerics={"threads": [2, 4]})])
    end(here, one, 2, 80, 80, "the store cannot be reached")
    assert told(here)[3:] == [
        "  attempt 2  went on from step 30, 45 steps done again",
        "             not bit for bit comparable from step 30 on: threads 2 → 4",
        "             damaged: checkpoint 000001-000000000060: pack 1f is missing; it was",
        "             set aside",
    ]
    lines = here.out("show", "aaa")
    assert "  exact      bit for bit up to step 30; numerics changed then" in lines
    assert any(line.endswith("80 steps (45 done again)") for line in lines)
    assert "  saved      step 30, 1.2 MB, " in "\n".join(lines)  # that of step 60 is of no use
    found = here.json("show", "aaa")
    assert (found["lost"], found["exact_until"]) == (45, 30)
    first, second = found["attempts"]
    assert (first["step"], first["exit_code"], first["resumed"]) == (75, None, None)
    assert second["resumed"] == {
        "step": 30, "lost": 45, "checkpoint": "000001-000000000030", "damaged": damaged,
        "numerics": {"threads": [2, 4]},
    }  # fmt: skip
    (listed,) = here.json("runs")["runs"]
    assert (listed["lost"], listed["exact_until"], listed["stopping"]) == (45, 30, None)


def test_numerics_that_were_lived_through_again_end_nothing(here: World, one: Folder) -> None:
    begin(here, one, 2, [resumed(60, 15, numerics={"threads": [2, 4]})])
    begin(here, one, 3, [resumed(30, 40)])
    found = here.json("show", "aaa")
    assert (found["lost"], found["exact_until"]) == (55, None)


def test_without_a_checkpoint_it_begins_again(here: World, one: Folder) -> None:
    begin(here, one, 2, [resumed(0, 75, checkpoint=None)])
    assert told(here)[3:] == ["  attempt 2  began again at the start, 75 steps done again"]


def test_what_is_saved_is_summed_up(here: World, one: Folder) -> None:
    lines = here.out("show", "aaa")
    (line,) = [line for line in lines if line.startswith("  saved ")]
    assert line.startswith("  saved      step 60, 1.2 MB, ")
    assert line.endswith("; 2 saves in all")
    assert here.json("show", "aaa")["saves"] == {
        "count": 2, "step": 60, "bytes": 1_200_000, "time": T0.timestamp(),
    }  # fmt: skip
    assert not any(line.split()[2:3] == ["saved"] for line in lines)  # among the events


def test_a_stop_that_waits_for_the_end_of_a_turn_is_shown(here: World, one: Folder) -> None:
    now = datetime.now(UTC).timestamp()
    asked = event(now, "stopping", {"code": 75, "why": "asked to stop (SIGTERM)"})
    begin(here, one, 2, [resumed(60, 15), asked])
    lines = here.out("show", "aaa")
    assert lines[0] == f"{ONE}  digits  stopping at the end of this turn"
    assert "  why        asked to stop (SIGTERM)" in lines
    assert lines[-1] == "next: crown-exp logs -f aaaaaa"
    assert here.json("show", "aaa")["stopping"] == "asked to stop (SIGTERM)"
    end(here, one, 2, 75, 80, "asked to stop (SIGTERM)")
    assert here.out("show", "aaa")[0].endswith("preempted")
    assert here.json("show", "aaa")["stopping"] is None


@pytest.mark.parametrize(
    ("code", "state", "typed"),
    [
        (75, "preempted", "resume aaaaaa"),
        (80, "lost", "resume aaaaaa"),
        (130, "stopped", "resume aaaaaa"),
        (77, "capped", "resume aaaaaa limits.run=…"),
        (79, "failed", "debug aaaaaa@76"),
        (1, "failed", "logs aaaaaa --last 1"),
    ],
)
def test_what_to_type_next(here: World, one: Folder, code: int, state: str, typed: str) -> None:
    end(here, one, 1, code, 75, "why")
    lines = here.out("show", "aaa")
    assert lines[0].endswith(state)
    assert lines[-1] == f"next: crown-exp {typed}"


def test_a_run_that_is_capped_names_the_cap_to_raise(here: World, one: Folder) -> None:
    end(here, one, 1, 77, 75, "budget.month_usd=5 reached: all runs of 2026-11 have cost $5.01")
    assert here.out("show", "aaa")[-1] == "next: crown-exp resume aaaaaa budget.month_usd=…"


def test_a_run_that_nobody_has_heard_of_is_to_be_resumed(here: World, one: Folder) -> None:
    import os

    path = here.blobs.local_path(one.paths.segment(1, 1))
    assert path is not None
    long_ago = (T0 + timedelta(hours=1)).timestamp()
    for file in (path, here.blobs.local_path(one.paths.attempt(1))):
        assert file is not None
        os.utime(file, (long_ago, long_ago))
    lines = here.out("show", "aaa")
    assert lines[0].endswith("lost")
    assert told(here)[1].split()[-2:] == ["0-75", "lost"]
    assert lines[-1] == "next: crown-exp resume aaaaaa"


def test_a_fork_and_what_it_was_forked_from_name_each_other(here: World, one: Folder) -> None:
    lineage = {"fork": {"run": ONE, "step": 60, "attempt": 1}}
    here.call(complete_run, here.blobs, TWO, lineage=lineage)
    assert f"  lineage    forked from {ONE}@60" in here.out("show", "abb")
    assert f"  forks      {TWO}@60" in here.out("show", "aaa")
    assert here.json("show", "aaa")["forks"] == [{"id": TWO, "step": 60}]
    assert here.json("show", "abb")["forks"] == []


def test_strange_events_are_no_story(here: World, one: Folder) -> None:
    begin(here, one, 2, [event(1e9, "resumed", {"step": "x"}), event(1e9, "saved", {"step": None}),
                         event(1e9, "stopping", {})])  # fmt: skip
    assert here.type("show", "aaa")[0] == 0
    found = here.json("show", "aaa")
    assert found["attempts"][1]["resumed"] is None
    assert found["lost"] == 0


def test_it_is_the_same_in_an_index_that_is_made_anew(here: World, one: Folder) -> None:
    begin(here, one, 2, [resumed(60, 15, numerics={"threads": [2, 4]})], changes={"a": 1})
    before = here.json("show", "aaa")
    here.out("reindex")
    assert here.json("show", "aaa") == before
    assert before["attempts"][1]["changes"] == {"a": 1}


def test_the_log_tells_of_a_resume_without_what_there_was_not(here: World, one: Folder) -> None:
    begin(here, one, 2, [resumed(60, 15)])
    (line,) = [line for line in here.out("logs", "aaa") if "resumed" in line]
    words = line.split()
    assert words[words.index("resumed") :] == [
        "resumed",
        "step",
        "60",
        "lost",
        "15",
        "checkpoint",
        "000001-000000000060",
    ]


# --- saves that failed ------------------------------------------------------------------------------------


def unsaved(step: int, why: str) -> Any:
    return event(T0.timestamp(), "unsaved", {"step": step, "why": why})


def not_saved(here: World) -> str:
    """What is said of saves that failed, in one line."""
    text = " ".join(line.strip() for line in here.out("show", "aaa"))
    _, found, rest = text.partition("not saved ")
    return rest.partition(" exact ")[0].partition(" typed ")[0].strip() if found else ""


def test_what_keeps_a_run_from_being_saved_is_told_until_it_is_saved_again(here: World) -> None:
    run = here.call(make_run, here.blobs, ONE)
    begin(here, run, 1, [saved(10), unsaved(20, "no room"), unsaved(30, "no such bucket: mine")])
    told = not_saved(here)
    assert told.startswith("2 saves failed in a row, the first ")
    assert ", the last after step 30: no such bucket: mine" in told
    known = here.json("show", "aaa")["unsaved"]
    assert (known["count"], known["step"], known["why"]) == (2, 30, "no such bucket: mine")
    assert known["since"] == "2026-11-22T10:00:00.000000Z"
    begin(here, run, 2, [resumed(10), saved(40)])
    assert not_saved(here) == ""
    assert here.json("show", "aaa")["unsaved"] is None
    begin(here, run, 3, [resumed(40), unsaved(50, "away")])
    assert not_saved(here).startswith("a save after step 50 failed ")
