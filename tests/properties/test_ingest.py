"""Whatever order a run's log is taken in, and however often, the index says the same as a model of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, event, select

from crown_exp.folder import Facts, state
from crown_exp.folder.segment import Record, point
from crown_exp.folder.segment import event as happened
from crown_exp.outcome import FINAL, State
from crown_exp.registry.findings import write_findings
from crown_exp.registry.keys import key_id
from crown_exp.registry.models import (
    attempts,
    jobs,
    metadata,
    metric_points,
    metric_summaries,
    runs,
    segments,
)
from crown_exp.registry.points import Place, Span, absorb
from crown_exp.registry.reading import read_records
from crown_exp.registry.rows import Findings
from crown_exp.registry.states import facts_of, may_be
from crown_exp.registry.summaries import added
from crown_exp.registry.values import flatten, value_of
from crown_exp.storage.database.columns import tagged, untagged
from tests.properties.test_state import facts as all_facts
from tests.properties.test_state import moments

RUN = "r1"
NAMES = ("a", "b")
numbers = st.floats(width=16) | st.just(math.nan)
points = st.builds(
    point, st.integers(0, 12), st.floats(1, 2), st.dictionaries(st.sampled_from(NAMES), numbers)
)
resumed = st.builds(lambda step: happened(1.0, "resumed", {"step": step}), st.integers(0, 12))
logs = st.lists(
    st.lists(points, max_size=6)
    | st.builds(lambda first, rest: [first, *rest], resumed, st.lists(points, max_size=5)),
    min_size=1,
    max_size=3,
)
"""The records of each attempt, in order; the attempts are numbered from 1. Some say from where they go on."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A database in memory, with its tables."""
    engine = create_engine("sqlite://", connect_args={"isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        metadata.create_all(connection)
    yield engine
    engine.dispose()


@contextmanager
def index(engine: Engine) -> Iterator[Connection]:
    """An empty index, of which nothing stays."""
    with engine.connect() as connection:
        assert not connection.execute(select(runs.c.id)).all()
        yield connection
        connection.rollback()


@st.composite
def takings(draw: st.DrawFn) -> tuple[list[list[Record]], list[tuple[int, int, int]]]:
    """Logs, and (attempt, first, end) of what is taken in: any order of attempts, each record in the end.

    Within an attempt what is taken in begins anywhere up to where the last ended: so some is taken in again.
    """
    written = draw(logs)
    done = [0] * len(written)
    taken = []
    while any(at < len(log) for at, log in zip(done, written, strict=True)):
        attempt = draw(st.integers(0, len(written) - 1))
        first = draw(st.integers(0, done[attempt]))
        end = draw(st.integers(done[attempt], len(written[attempt])))
        taken.append((attempt + 1, first, end))
        done[attempt] = end
    return written, taken


def model(written: list[list[Record]]) -> dict[str, dict[int, tuple[float, int]]]:
    """(value, attempt) by name and step: the newest attempt counts, and within one what came last."""
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for attempt, records in enumerate(written, 1):
        said = [record[3]["step"] for record in records if record[0] == "e"]
        records = [record for record in records if record[0] == "m"]
        first = min(said or [step for _, step, _, _ in records], default=math.inf)
        for steps in found.values():
            for step in [step for step in steps if step > first]:
                del steps[step]
        for _, step, _, values in records:
            for name, value in values.items():
                found.setdefault(name, {})[step] = (value, attempt)
    return {name: steps for name, steps in found.items() if steps}


def same(one: float | None, other: float | None) -> bool:
    """Equality, for which nan, and None for it, are alike."""
    if one is None or math.isnan(one):
        return other is None or math.isnan(other)
    return one == other


def check(connection: Connection, expected: Mapping[str, Mapping[int, tuple[float, int]]]) -> None:
    """The points and the summaries are those of the model."""
    names = {key_id("metric", name): name for name in NAMES}
    c = metric_points.c
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for key, step, value, attempt in connection.execute(
        select(c.key_id, c.step, c.value, c.attempt)
    ):
        found.setdefault(names[key], {})[step] = (value, attempt)
    assert {name: steps.keys() for name, steps in found.items()} == {
        name: steps.keys() for name, steps in expected.items()
    }
    for name, steps in expected.items():
        for step, (value, attempt) in steps.items():
            assert same(value, found[name][step][0]) and found[name][step][1] == attempt
    told = {row.key_id: row for row in connection.execute(select(metric_summaries))}
    assert {names[key] for key in told} == expected.keys()
    for name, steps in expected.items():
        check_summary(
            told[key_id("metric", name)], {step: value for step, (value, _) in steps.items()}
        )


def check_summary(row: Any, values: Mapping[int, float]) -> None:
    real = {step: value for step, value in values.items() if not math.isnan(value)}
    assert (row.n, row.last_step) == (len(values), max(values))
    assert same(row.last, values[max(values)])
    low, high = min(real.values(), default=None), max(real.values(), default=None)
    assert (row.min, row.max) == (low, high)
    assert row.min_step == min((step for step in real if real[step] == low), default=None)
    assert row.max_step == min((step for step in real if real[step] == high), default=None)


@settings(max_examples=150)
@given(takings())
def test_any_order_and_any_repetition_gives_the_same(
    engine: Engine,
    given: tuple[list[list[Record]], list[tuple[int, int, int]]],
) -> None:
    written, taken = given
    with index(engine) as connection:
        for attempt, first, end in taken:
            span = Span(first, first * 10, end * 10)
            absorb(connection, Place(RUN, attempt, 1), span, written[attempt - 1][first:end])
        check(connection, model(written))
        rows = connection.execute(select(segments).order_by(segments.c.attempt))
        ends = {row.attempt: (row.good_bytes, row.records) for row in rows}
        assert ends == {
            attempt: (len(log) * 10, len(log))
            for attempt, log in enumerate(written, 1)
            if log or attempt in ends
        }


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8))
def test_the_cursor_never_passes_a_gap(engine: Engine, spans: list[tuple[int, int]]) -> None:
    """It ends where all up to there was taken in, whatever else was."""
    with index(engine) as connection:
        reached = 0
        for one, other in spans:
            start, end = min(one, other), max(one, other)
            records = [point(step, 1.0, {"a": 1.0}) for step in range(start, end)]
            absorb(connection, Place(RUN, 1, 1), Span(start, start, end), records)
            reached = end if start <= reached <= end else reached
            row = connection.execute(select(segments)).one()
            assert (row.good_bytes, row.records) == (reached, reached)


@given(st.lists(numbers, min_size=1), st.integers(0, 30))
def test_a_summary_that_grows_is_that_of_the_whole(values: list[float], cut: int) -> None:
    records = [point(step, 1.0, {"a": value}) for step, value in enumerate(values)]
    whole = read_records(records, 0).points["a"]
    first = {step: value for step, value in whole.items() if step < cut}
    rest = {step: value for step, value in whole.items() if step >= cut}
    grown = added(None, first) if first else None
    assert (added(grown, rest) if rest else grown) == added(None, whole)


# --- states ---------------------------------------------------------------------------------------------


def stored(connection: Connection, facts: Facts) -> Facts:
    """The facts as the index gives them back, after it was told of them."""
    found = Findings("memory://", facts, None, (), "", (), 0, "")
    write_findings(connection, found)
    row = connection.execute(select(runs)).mappings().one()
    begun = connection.execute(select(attempts)).mappings().all()
    return facts_of(row, begun, connection.execute(select(jobs)).mappings().all())


@settings(max_examples=300)
@given(all_facts, moments)
def test_the_index_tells_the_state_that_the_folder_tells(
    engine: Engine, facts: Facts, now: datetime
) -> None:
    with index(engine) as connection:
        again = stored(connection, facts)
        expected = state(facts, now)
        assert state(again, now) is expected
        assert again.run == facts.run and again.result == facts.result
        # And SQL, which looks before, leaves none out that has the state.
        for wanted in (frozenset({expected}), frozenset(State)):
            assert connection.execute(select(runs.c.id).where(may_be(wanted, now))).all()
        if expected in FINAL - {State.FAILED}:
            others = frozenset(State) - {expected}
            assert not connection.execute(select(runs.c.id).where(may_be(others, now))).all()


# --- values ---------------------------------------------------------------------------------------------

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(trees)
def test_any_tree_can_be_flattened_and_stored(tree: Any) -> None:
    for name, value in flatten(tree).items():
        assert isinstance(name, str) and isinstance(value.text, str)
        assert value.num is None or not math.isnan(value.num)


@given(trees.filter(lambda tree: "$number" not in repr(tree)))
def test_a_tree_comes_back_from_json(tree: Any) -> None:
    import json

    stored = json.loads(json.dumps(tagged(tree), allow_nan=False))
    assert repr(untagged(stored)) == repr(untagged(tagged(tree)))


@pytest.mark.parametrize("value", [0.1, 1e300, 5e-324, -0.0, 123456789.123])
def test_a_number_s_text_is_that_number(value: float) -> None:
    assert float(value_of(value).text) == value
