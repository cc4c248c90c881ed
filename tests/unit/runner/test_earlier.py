"""What attempts before this one tell: progress, changes, numerics, steps to be done again."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.changes import merged
from crown_exp.folder import AttemptRecord, EndRecord, Facts, RunPaths, RunRecord
from crown_exp.folder.segment import encode_batch, encode_header, event, point
from crown_exp.runner.earlier import (
    applied,
    deaths,
    final_word,
    last_step,
    saved_up_to,
    steps_lost,
    without_progress,
)
from crown_exp.runner.numerics import not_bit_comparable, numerics_changed
from crown_exp.storage import BlobStore, open_blobs

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RUN = RunRecord(
    id="r1", name="x", experiment=None, user="me", created=NOW, task="a.b", signature="v1:0",
    overrides=[], tags=[], seed=1, compute="local", sweep=None, lineage=None, code=None, bound=[],
)  # fmt: skip
PATHS = RunPaths(RUN.id)


def attempt(number: int, **fields: Any) -> AttemptRecord:
    given = {"numerics": {}, "versions": {}} | fields
    return AttemptRecord(
        run=RUN.id, attempt=number, started=NOW, host="h", pid=1, process_started=None, boot_id=None,
        job=None, **given,
    )  # fmt: skip


def end(number: int, code: int = 75, step: int = 0, **fields: Any) -> EndRecord:
    return EndRecord(
        run=RUN.id, attempt=number, ended=NOW, exit_code=code, step=step, reason="", error=None,
        code=None, **fields,
    )  # fmt: skip


Told = tuple[int, int | None] | tuple[int, int | None, bool] | None


def run_of(*told: Told) -> Facts:
    """A run by the (exit code, saved, again) of its attempts; None for one that was killed."""
    ends = [
        end(number, each[0], saved=each[1], again=len(each) == 3)
        for number, each in enumerate(told, 1)
        if each is not None
    ]
    attempts = [attempt(number) for number in range(1, len(told) + 1)]
    return Facts(run=RUN, attempts=attempts[::-1], ends=ends[::-1])


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ([], 0),
        ([(75, None)], 1),
        ([(75, 10)], 0),
        ([(75, 10), (75, 10)], 1),
        ([(75, 10), (75, 20), (75, 20), (80, 20), (75, 20)], 3),
        ([(75, None), (80, None), (75, None)], 3),
        ([(75, None), (80, None), (75, 5)], 0),
        ([(75, None), (130, None), (75, None)], 1),
        ([(75, None), (75, None), (77, None)], 0),
        ([(75, None), (75, None, True), (75, None)], 1),
        ([(75, None), (75, None), None], 0),
        ([(75, 10), None, (75, 10), (75, 10)], 2),
        ([(75, 10), None, (75, 20), (75, 20)], 1),
        ([None, (75, 20)], 0),
        ([None, (75, None)], 1),
        ([(75, 30), (75, 20), (75, 20)], 1),  # a damaged one was put aside
    ],
)
def test_ends_without_progress(told: Sequence[Told], count: int) -> None:
    assert without_progress(run_of(*told)) == count


@pytest.mark.parametrize(
    ("reason", "seconds", "count"),
    [
        ("notice 27 s, nothing to save", 5, 0),
        ("notice 27 s, saved in 0.0 s, steps lost 0", 5, 0),
        ("notice 27 s, nothing to save", 600, 4),
        ("asked to stop (SIGTERM), nothing to save", 5, 4),
    ],
)
def test_starts_on_a_machine_that_is_about_to_be_taken_do_not_count(
    reason: str, seconds: float, count: int
) -> None:
    facts = run_of(*[(75, None)] * 4)
    ended = NOW + timedelta(seconds=seconds)
    ends = [replace(each, reason=reason, ended=ended) for each in facts.ends]
    assert without_progress(replace(facts, ends=ends)) == count


@pytest.mark.parametrize(
    ("code", "reason", "count"),
    [
        (75, "notice 27 s, not saved, steps lost 1", 1),
        (75, "notice 118 s, trained on for 97 s, not saved, steps lost 1", 1),
        (75, "asked to stop (SIGTERM), ended at once, steps lost 1", 1),
        (75, "limits.attempt=4h reached; resume goes on from here", 0),
        (75, "out of memory with batches in one part; tried again with 2", 0),
        (77, "limits.run=4h reached (all attempts together); raise it and resume", 0),
        (80, "nothing could be saved for 1 hour", 0),
        (130, "interrupted by the user", 0),
    ],
)
def test_deaths_are_those_that_a_machine_brings(code: int, reason: str, count: int) -> None:
    saved = run_of((code, 5))
    for step, lost in ((6, count), (5, 0)):  # nothing is lost of what was saved in time
        ends = [replace(each, reason=reason, step=step) for each in saved.ends]
        facts = replace(saved, ends=ends)
        assert deaths(facts) == lost
    killed = replace(facts, attempts=[*facts.attempts, attempt(2), attempt(3)])
    assert deaths(killed) == 2
    assert deaths(run_of()) == 0


def test_who_was_taken_over_from_did_not_die() -> None:
    facts = run_of(None, None, None, None)
    assert deaths(facts) == 4
    taken = [replace(it, took_over=it.attempt in (2, 3)) for it in facts.attempts]
    assert deaths(replace(facts, attempts=taken)) == 2


@given(
    st.lists(
        st.none() | st.tuples(st.sampled_from([75, 80, 130, 1]), st.sampled_from([None, 1, 2])),
        max_size=8,
    )
)
def test_progress_or_another_end_begins_the_count_anew(told: list[Any]) -> None:
    count = without_progress(run_of(*told))
    assert 0 <= count <= len(told)
    assert all(each is not None and each[0] in (75, 80) for each in told[len(told) - count :])
    assert len({each[1] for each in told[len(told) - count :]}) <= 1
    assert without_progress(run_of(*told, None)) == without_progress(run_of(*told, (130, 1))) == 0


def test_the_final_word_says_what_to_do() -> None:
    said = final_word(3)
    assert said.startswith("3 attempts in a row")
    assert "checkpoint.every" in said
    assert "\n" not in said


# --- changes ------------------------------------------------------------------------------------------


def test_the_newest_attempts_changes_count() -> None:
    assert Facts(run=RUN).changes == {}
    attempts = [attempt(2, changes={"a": 2}), attempt(3, changes={"b": 3}), attempt(1)]
    assert Facts(run=RUN, attempts=attempts).changes == {"b": 3}
    assert Facts(run=RUN, attempts=[attempt(1)]).changes == {}


def test_applied_sets_keys_and_groups_and_leaves_the_config_alone() -> None:
    config = {"optimizer": {"lr": 0.1, "betas": [1, 2]}, "model": None, "name": "x"}
    kept = copy.deepcopy(config)
    changes: dict[str, Any] = {
        "optimizer.lr": 1.0,
        "model": {"width": [3]},
        "limits.run": "2 hours",
    }
    found = applied(config, changes)
    assert found == {
        "optimizer": {"lr": 1.0, "betas": [1, 2]}, "model": {"width": [3]}, "name": "x",
        "limits": {"run": "2 hours"},
    }  # fmt: skip
    found["optimizer"]["betas"].append(3)
    found["model"]["width"].append(4)
    assert config == kept
    assert changes["model"] == {"width": [3]}


def test_what_is_typed_now_replaces_what_lies_below() -> None:
    earlier = {"optimizer.lr": 1, "optimizer": {"lr": 2}, "optimizers.lr": 3, "seed": 4}
    assert merged(earlier, {"optimizer": {"lr": 5}}) == {
        "optimizers.lr": 3, "seed": 4, "optimizer": {"lr": 5},
    }  # fmt: skip
    assert list(merged({"optimizer": {"lr": 2}}, {"optimizer.lr": 7})) == [
        "optimizer",
        "optimizer.lr",
    ]


keys = st.sampled_from(["a", "b", "a.x", "a.y", "b.x", "a.x.deep"])


@given(
    st.dictionaries(keys, st.integers() | st.builds(dict)),
    st.dictionaries(keys, st.integers() | st.builds(dict)),
)
def test_merged_is_one_after_the_other(earlier: dict[str, Any], typed: dict[str, Any]) -> None:
    config = {"a": {"x": 0, "y": 0}, "b": None}
    assert applied(config, merged(earlier, typed)) == applied(applied(config, earlier), typed)


# --- numerics -----------------------------------------------------------------------------------------

CPU = {
    "device": "cpu",
    "precision": "fp32",
    "tf32": False,
    "accumulate": 1,
    "threads": 2,
    "ranks": 1,
}


def test_equal_numerics_are_no_change() -> None:
    old = attempt(
        1, numerics=CPU | {"device": "cuda:0"}, versions={"python": "3.11.7", "torch": "2.13"}
    )
    now = CPU | {"device": "cuda:3"}
    assert numerics_changed(old, now, {"python": "3.11.9", "torch": "2.13"}) == {}


def test_what_one_of_the_two_does_not_tell_is_passed_over() -> None:
    assert numerics_changed(attempt(1, numerics=CPU, versions={"torch": "2.13"}), {}, {}) == {}
    assert numerics_changed(attempt(1), CPU, {"torch": "2.13"}) == {}


def test_changed_numerics_are_told() -> None:
    old = attempt(1, numerics=CPU, versions={"python": "3.11.7", "torch": "2.12.1"})
    now = CPU | {"device": "cuda:0", "threads": 4, "tf32": True}
    found = numerics_changed(old, now, {"python": "3.12.1", "torch": "2.13.0"})
    assert found == {
        "device": ["cpu", "cuda"], "tf32": [False, True], "threads": [2, 4],
        "python": ["3.11", "3.12"], "torch": ["2.12.1", "2.13.0"],
    }  # fmt: skip
    assert not_bit_comparable({"threads": [2, 4], "torch": ["2.12.1", "2.13.0"]}, 60) == (
        "not bit-comparable from step 60 on: threads 2 → 4, torch 2.12.1 → 2.13.0"
    )


# --- steps lost ---------------------------------------------------------------------------------------


@pytest.fixture
def blobs(tmp_path: Any) -> BlobStore:
    return open_blobs(str(tmp_path))


def log(
    blobs: BlobStore, number: int, *batches: list[Any], tail: bytes = b"", segment: int = 1
) -> None:
    data = encode_header(RUN.id, number, segment) + b"".join(map(encode_batch, batches)) + tail
    asyncio.run(blobs.put(PATHS.segment(number, segment), data))


def points(*steps: int) -> list[Any]:
    return [point(step, 0.0, {"loss": 1.0}) for step in steps]


def lost(blobs: BlobStore, facts: Facts, step: int) -> int:
    return asyncio.run(steps_lost(blobs, facts, step))


def test_the_last_step_of_a_log(blobs: BlobStore) -> None:
    def found(number: int) -> int | None:
        return asyncio.run(last_step(blobs, PATHS, number))

    assert found(1) is None
    log(blobs, 1)
    assert found(1) is None
    log(blobs, 1, [event(0.0, "device", {"step": 99})], [event(0.0, "resumed", {"step": 4})])
    assert found(1) == 4
    log(blobs, 1, points(1, 2), points(3), [event(0.0, "beat", {})], tail=b"\0" * 50)
    assert found(1) == 3
    log(blobs, 1, points(7), segment=2)
    assert found(1) == 7
    log(blobs, 2, points(8), [event(0.0, "saved", {"step": 9, "bytes": 1}), *points(9)])
    assert (found(2), found(1)) == (9, 7)
    asyncio.run(blobs.put(PATHS.segment(3, 1), b"of something else"))
    assert found(3) is None


def test_the_newest_that_tells_of_a_save_is_asked_alone(blobs: BlobStore, monkeypatch: Any) -> None:
    """Its end, or its log from behind; those before it only if it tells of none."""
    read: list[str] = []
    get = blobs.get

    async def told(path: str) -> bytes:
        read.append(path)
        return await get(path)

    monkeypatch.setattr(blobs, "get", told)

    def found(*ends: Told) -> int | None:
        read.clear()
        return asyncio.run(saved_up_to(blobs, run_of(*ends)))

    def saved(*steps: int) -> list[Any]:
        return [event(0.0, "saved", {"step": step, "bytes": 1}) for step in steps]

    assert found() is None
    log(blobs, 1, saved(10))
    log(blobs, 1, [*saved(20, 30), *points(31)], segment=2)
    log(blobs, 1, points(32), segment=3)
    assert found(None) == 30
    assert read == [PATHS.segment(1, 3), PATHS.segment(1, 2)]
    assert found((75, 30)) == 30 and read == []
    log(blobs, 2, [event(0.0, "resumed", {"step": 30})], points(33))
    assert found((75, 30), None) == 30 and read == [PATHS.segment(2, 1)]
    assert found((75, 30), (75, 20)) == 20 and read == []
    assert found((75, None), (75, None)) == 30 and len(read) == 3


def test_an_end_tells_how_far_it_came(blobs: BlobStore) -> None:
    facts = Facts(run=RUN, attempts=[attempt(1)], ends=[end(1, step=100)])
    assert (lost(blobs, facts, 60), lost(blobs, facts, 100), lost(blobs, facts, 0)) == (40, 0, 100)
    assert lost(blobs, facts, 120) == 0
    assert lost(blobs, Facts(run=RUN), 0) == 0


def test_the_log_tells_of_an_attempt_that_was_killed(blobs: BlobStore) -> None:
    log(blobs, 1, points(*range(1, 73)))
    assert lost(blobs, Facts(run=RUN, attempts=[attempt(1)]), 60) == 12


def test_what_was_lost_before_is_not_counted_again(blobs: BlobStore) -> None:
    """Over all attempts, steps lost are those done less those of the curve."""
    log(blobs, 1, points(100))
    facts = Facts(run=RUN, attempts=[attempt(1)])
    assert lost(blobs, facts, 60) == 40
    log(blobs, 2, [event(0.0, "resumed", {"step": 60})], points(61, 70))
    facts = Facts(run=RUN, attempts=[attempt(1), attempt(2)])
    assert lost(blobs, facts, 70) == 0
    log(blobs, 3, [event(0.0, "resumed", {"step": 70})])  # killed before its first turn
    facts = Facts(run=RUN, attempts=[attempt(3), attempt(1), attempt(2)])
    assert lost(blobs, facts, 70) == 0
    assert lost(blobs, facts, 60) == 10  # that of step 70 was damaged


@pytest.mark.parametrize("ends", [[], [end(2, step=0)]])
def test_an_attempt_that_did_nothing_hides_no_loss(blobs: BlobStore, ends: list[EndRecord]) -> None:
    log(blobs, 1, points(100))
    facts = Facts(run=RUN, attempts=[attempt(1), attempt(2)], ends=ends)
    assert lost(blobs, facts, 60) == 40
