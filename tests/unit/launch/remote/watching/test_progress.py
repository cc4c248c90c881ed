"""What is read of a run that is elsewhere: as it grows, torn, in pieces, over its attempts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.folder.segment import encode_batch, encode_header, event, point
from crown_exp.launch.remote.watching import progress
from crown_exp.launch.remote.watching.progress import Progress, points
from crown_exp.storage import BlobStore, Portal, open_blobs
from tests.unit.registry.folders import CONFIG, Folder, make_run

NAMES = itertools.count()
"""Of stores in memory, each new."""


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(str(tmp_path / "store"))


def steps(*numbers: int, every: float = 2.0) -> list[Any]:
    return [point(step, 1e9 + step * every, {"loss": 1 / step, "lr": 0.1}) for step in numbers]


def begun(portal: Portal, blobs: BlobStore, **config: Any) -> tuple[Folder, Progress]:
    made: Folder = portal.call(make_run, blobs, config=CONFIG | config)
    portal.call(made.attempt)
    return made, Progress(made.id)


def test_only_what_is_new_is_read(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs)
    portal.call(made.log, [steps(1, 2)])
    assert portal.call(read.look, blobs) is True
    assert (read.step, read.metric) == (2, ("loss", 0.5))
    assert portal.call(read.look, blobs) is False
    portal.call(made.log, [steps(1, 2), steps(3, 4)])
    assert portal.call(read.look, blobs) is True
    assert (read.step, read.metric) == (4, ("loss", 0.25))
    portal.call(made.end, 1, 0, 9)
    assert portal.call(read.look, blobs) is True
    assert read.step == 9  # as its end has it
    assert read.facts is not None and [it.exit_code for it in read.facts.ends] == [0]


def test_a_frame_counts_when_it_is_whole(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs)
    data = encode_header(made.id, 1, 1) + encode_batch(steps(1)) + encode_batch(steps(2, 3))
    seen = []
    for end in range(0, len(data) + 1, 11):
        portal.call(blobs.put, made.paths.segment(1, 1), data[:end])
        portal.call(read.look, blobs)
        seen.append(read.step)
    portal.call(blobs.put, made.paths.segment(1, 1), data)
    portal.call(read.look, blobs)
    assert sorted(seen) == seen and set(seen) <= {0, 1, 3}
    assert read.step == 3


@given(size=st.integers(60, 4000), batches=st.integers(1, 40))
def test_a_log_is_read_in_pieces_of_any_size(size: int, batches: int) -> None:
    with pytest.MonkeyPatch.context() as patch, Portal() as portal:
        patch.setattr(progress, "PIECE", size)
        blobs = open_blobs(f"memory://{next(NAMES)}")
        made, read = begun(portal, blobs)
        portal.call(made.log, [steps(*range(10 * n + 1, 10 * n + 11)) for n in range(batches)])
        portal.call(read.look, blobs)
        assert read.step == 10 * batches
        assert read.metric == ("loss", 1 / read.step)


def test_the_time_that_is_left(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs, limits={"steps": 100}, task={"steps": 500})
    portal.call(made.log, [steps(10), steps(20)])
    portal.call(read.look, blobs)
    assert (read.total, read.seconds_left) == (100, 160.0)


def test_nothing_is_left_where_nobody_knows_the_end(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs)
    portal.call(made.log, [steps(10, 20)])
    portal.call(read.look, blobs)
    assert (read.total, read.seconds_left) == (None, None)


def test_a_new_attempt_may_begin_before_what_was_done(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs)
    portal.call(made.log, [steps(*range(1, 31))])
    portal.call(read.look, blobs)
    portal.call(made.attempt, 2)
    portal.call(read.look, blobs)
    assert read.step == 30  # it has done nothing yet
    portal.call(made.log, [steps(21, 22)], attempt=2)
    portal.call(read.look, blobs)
    assert read.step == 22


def test_a_later_segment_goes_on(portal: Portal, blobs: BlobStore) -> None:
    made, read = begun(portal, blobs)
    portal.call(made.log, [steps(1)])
    portal.call(made.log, [steps(2), [event(1.0, "saved", {"step": 2})]], number=2)
    portal.call(read.look, blobs)
    assert read.step == 2


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        ({"train_loss_x": 1.0, "accuracy": 0.5, "val_loss": 2.0}, ("val_loss", 2.0)),
        ({"reward": 3.0, "length": 1.0}, ("reward", 3.0)),
        ({}, None),
    ],
)
def test_the_metric_that_is_shown(values: dict[str, float], metric: object) -> None:
    assert Progress("r1", values=values).metric == metric


@given(st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=9))
def test_records_that_are_none_are_passed_over(record: Any) -> None:
    odd = [record, ["m", "x", 1.0, {}], ["m", 1, 2.0, [3]], ["m", 7, 1.0, {"a": 1, "b": "no"}]]
    assert list(points([json.dumps(odd).encode(), b"{", b"\xff"])) == [(7, 1.0, {"a": 1.0})]
