"""What counts of a run's attempts, and what of it is missing elsewhere."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

import anyio
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.folder.segment import encode_batch, encode_header, event, point
from crown_exp.storage import open_blobs
from crown_exp.tracking import Point
from crown_exp.tracking.replay import counting, earlier_points, read_points

STEPS = st.integers(0, 20)
NAMES = st.sampled_from(["loss", "accuracy"])
RECORDS = st.lists(
    st.builds(
        lambda step, time, names: point(step, time, dict.fromkeys(names, 1.0)),
        STEPS, st.floats(0, 2e9), st.sets(NAMES, min_size=1),
    ),
    max_size=8,
)  # fmt: skip


def at(step: int, time: float = 0.0, **values: float) -> list[Any]:
    return list(point(step, time, values))


def test_one_attempt_counts_as_it_is() -> None:
    records = [at(1, loss=1.0), at(1, loss=2.0), event(0.0, "beat", {}), at(0, loss=math.inf)]
    assert [(found.step, found.values) for found in counting({1: records})] == [
        (1, {"loss": 1.0}), (1, {"loss": 2.0}), (0, {"loss": math.inf}),
    ]  # fmt: skip


def test_a_later_attempt_supersedes_what_it_lives_through_again() -> None:
    first = [at(step, 1.0, loss=float(step)) for step in range(1, 8)]
    second = [event(2.0, "resumed", {"step": 4}), *(at(step, 2.0, loss=0.0) for step in (5, 6))]
    found = counting({2: second, 1: first})
    assert [(each.step, each.time) for each in found] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0),
    ]  # fmt: skip


def test_at_the_step_from_which_it_goes_on_its_values_count() -> None:
    first = [at(3, 1.0, loss=1.0, rate=0.1), at(4, 1.0, loss=1.0)]
    second = [at(3, 2.0, loss=2.0)]
    assert counting({1: first, 2: second}) == [
        Point(3, 1.0, {"rate": 0.1}),
        Point(3, 2.0, {"loss": 2.0}),
    ]


def test_what_code_before_the_loop_logs_again_supersedes_only_itself() -> None:
    first = [at(0, 1.0, size=10.0), *(at(step, 1.0, loss=1.0) for step in range(1, 6))]
    second = [event(2.0, "resumed", {"step": 3}), at(0, 2.0, size=10.0), at(4, 2.0, loss=1.0)]
    found = counting({1: first, 2: second})
    assert [(each.step, each.time) for each in found] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (0, 2.0), (4, 2.0),
    ]  # fmt: skip


def test_an_attempt_that_logged_nothing_changes_nothing() -> None:
    assert counting({1: [at(1, loss=1.0)], 2: [event(0.0, "beat", {})]}) == [
        Point(1, 0.0, {"loss": 1.0})
    ]


def test_what_is_no_number_is_left_out() -> None:
    records = [["m", 1, 0.0, {"a": "text", "b": True, "c": 2, "d": None}], ["?", 1]]
    assert counting({1: records}) == [Point(1, 0.0, {"c": 2.0})]


@given(st.dictionaries(st.integers(1, 4), RECORDS))
def test_no_step_and_name_counts_for_two_attempts(attempts: dict[int, Any]) -> None:
    marked = {
        attempt: [[*record[:2], float(attempt), record[3]] for record in records]
        for attempt, records in attempts.items()
    }
    owners: dict[tuple[int, str], set[float]] = {}
    for found in counting(marked):
        for name in found.values:
            owners.setdefault((found.step, name), set()).add(found.time)
    assert all(len(attempts_of_it) == 1 for attempts_of_it in owners.values())
    newest = max((attempt for attempt, records in attempts.items() if records), default=0)
    assert len([found for found in counting(marked) if found.time == newest]) == len(
        attempts.get(newest, [])
    )


def test_a_folder_is_read_with_all_its_segments_and_what_is_damaged_is_told() -> None:
    async def read() -> tuple[list[Point], list[str]]:
        blobs = open_blobs(f"memory://{uuid4().hex}")
        for attempt, number, step in ((1, 1, 1), (1, 2, 2), (2, 1, 3)):
            data = encode_header("r1", attempt, number) + encode_batch([at(step, loss=1.0)])
            await blobs.put(f"runs/r1/log/{attempt:06}-{number:06}.seg", data + b"torn")
        await blobs.put("runs/r1/log/000003-000001.seg", b"no segment")
        await blobs.put("runs/r1/log/notes.txt", b"no segment")
        return await read_points(blobs, "r1")

    points, problems = anyio.run(read)
    assert [found.step for found in points] == [1, 2, 3]
    assert len(problems) == 4
    assert all("bytes is torn or damaged; it is passed over" in line for line in problems[:3])
    assert "000001-000002.seg" in problems[1]
    assert "000003-000001.seg: not a log segment" in problems[3]


def test_a_segment_of_another_run_or_place_is_passed_over_and_told() -> None:
    async def read() -> tuple[list[Point], list[str]]:
        blobs = open_blobs(f"memory://{uuid4().hex}")
        own = [encode_header(run, 1, number) for run, number in (("r1", 1), ("r2", 2), ("r1", 1))]
        for number, header in enumerate(own, start=1):
            data = header + encode_batch([at(number, loss=1.0)])
            await blobs.put(f"runs/r1/log/000001-{number:06}.seg", data)
        return await read_points(blobs, "r1")

    points, problems = anyio.run(read)
    assert [found.step for found in points] == [1]
    assert problems == [
        f"runs/r1/log/000001-{number:06}.seg: is a log segment of something else; it is passed over"
        for number in (2, 3)
    ]


def test_of_a_damaged_segment_what_is_good_counts_and_the_rest_is_told() -> None:
    async def read() -> tuple[list[Point], list[str]]:
        blobs = open_blobs(f"memory://{uuid4().hex}")
        good = encode_header("r1", 1, 1) + encode_batch([at(1, loss=1.0)])
        damaged = bytearray(good + encode_batch([at(2, loss=1.0)]))
        damaged[-3] ^= 1
        await blobs.put("runs/r1/log/000001-000001.seg", bytes(damaged))
        points, problems = await read_points(blobs, "r1")
        assert f"what comes after {len(good)} bytes" in problems[0]
        return points, problems

    points, problems = anyio.run(read)
    assert [found.step for found in points] == [1]
    assert len(problems) == 1


def test_what_earlier_attempts_logged_up_to_the_step_from_which_one_goes_on() -> None:
    async def read() -> list[Point]:
        blobs = open_blobs(f"memory://{uuid4().hex}")
        written: dict[int, list[Any]] = {
            1: [at(step, 1.0, loss=1.0) for step in range(1, 6)],
            2: [event(2.0, "resumed", {"step": 2}), *(at(step, 2.0, loss=1.0) for step in (3, 4))],
            3: [event(3.0, "resumed", {"step": 3}), at(4, 3.0, loss=1.0)],
        }
        for attempt, records in written.items():
            data = encode_header("r1", attempt, 1) + encode_batch(records) + b"torn"
            await blobs.put(f"runs/r1/log/{attempt:06}-000001.seg", data)
        return await earlier_points(blobs, "r1", 3, 3)

    points = anyio.run(read)
    assert [(found.step, found.time) for found in points] == [(1, 1.0), (2, 1.0), (3, 2.0)]
