"""The traces that the simulation of spot machines goes by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.spot_traces import Trace, load, traces

TRACES = {trace.name: trace for trace in traces()}


def test_the_stretches_are_those_of_the_original() -> None:
    assert {(name, trace.taken, round(trace.present / 3600)) for name, trace in TRACES.items()} == {
        ("availability-us-east-1a", 253, 182),
        ("preemption-us-east-1c", 41, 56),
        ("preemption-us-west-2b", 44, 141),
    }


def test_a_stretch_is_so_many_ticks(tmp_path: Path) -> None:
    path = tmp_path / "zone.json"
    path.write_text(json.dumps({"gap_seconds": 10, "first": 0, "ticks": [2, 1, 3, 4]}))
    trace = load(path)
    assert trace == Trace("zone", 10.0, 100.0, ((20.0, 30.0), (60.0, 100.0)))
    assert (trace.taken, trace.present) == (1, 50.0)


@pytest.mark.parametrize("name", TRACES)
@given(seed=st.integers(0, 10_000))
def test_what_may_have_been_agrees_with_every_look(name: str, seed: int) -> None:
    trace = TRACES[name]
    drawn = trace.drawn(seed)
    assert drawn == trace.drawn(seed) and drawn.taken == trace.taken
    ends = [0.0]
    for (begin, end), (first, none) in zip(drawn.lives, trace.lives, strict=True):
        assert first - trace.gap <= begin <= first and none - trace.gap <= end <= none
        assert ends[-1] <= begin < end
        ends.append(end)
