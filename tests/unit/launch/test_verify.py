"""The pure parts of a proof: when a run is killed, what differs first, what is suspicious in a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.folder import Facts, ResultRecord, RunRecord
from crown_exp.launch.verify import Trail, courses, difference
from crown_exp.launch.verify.course import moments
from crown_exp.launch.verify.suspects import looked_at, targets
from crown_exp.launch.verify.trail import Bytes, is_ignored

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RUN = RunRecord(
    id="r261129-000001", name="x", experiment=None, user="me", created=NOW, task="t", signature="v1:0",
    overrides=[], tags=[], seed=1, compute="local", sweep=None, lineage=None, code=None, bound=[],
)  # fmt: skip


def trail(
    states: dict[int, dict[str, Any]], points: dict[int, dict[str, float]], result: Any = None
) -> Trail:
    record = ResultRecord(RUN.id, 1, max(states, default=0), NOW, result)
    facts = Facts(run=RUN, jobs=[], attempts=[], ends=[], last_beat=None, result=record)
    return Trail({step: [leaves] for step, leaves in states.items()}, points, facts)


@given(st.integers(1, 10_000))
def test_kills_come_one_after_the_other_and_each_attempt_can_come_to_its_own(steps: int) -> None:
    saved = 0
    for how, step in moments(steps):
        assert saved < step + (how == "in") <= steps + (how == "in")
        saved = step if how == "after" else step - 1
    assert 1 <= len(moments(steps)) <= 3
    assert [course.kind for course in courses(steps)] == ["repeat", "workers", "kill"]


STATES = {
    1: {"net.w": Bytes("float32 of shape (2,) #aa"), "n": 1},
    2: {"net.w": Bytes("x #b"), "n": 2},
}
POINTS = {1: {"loss": 0.5}, 2: {"loss": float("nan")}}


def test_equal_runs_do_not_differ() -> None:
    assert difference(trail(STATES, POINTS, {"a": 1.0}), trail(STATES, POINTS, {"a": 1.0})) is None


@pytest.mark.parametrize(
    ("states", "points", "step", "words"),
    [
        (
            {**STATES, 2: {"net.w": Bytes("x #c"), "n": 2}},
            POINTS,
            2,
            "net.w after step 2 has other values",
        ),
        ({**STATES, 1: {**STATES[1], "n": True}}, POINTS, 1, "n after step 1 was 1 and is True"),
        ({**STATES, 1: {"n": 1}}, POINTS, 1, "net.w after step 1 is gone"),
        (STATES, {**POINTS, 1: {"loss": 0.25}}, 1, "loss in step 1 was 0.5 and is 0.25"),
        (STATES, {1: POINTS[1]}, 2, "loss in step 2 is not logged by the other run"),
        (
            STATES,
            {**POINTS, 0: {"more": 1.0}},
            0,
            "more in step 0 is logged by the other run alone",
        ),
    ],
)
def test_the_first_difference_is_named(
    states: dict[int, Any], points: dict[int, Any], step: int, words: str
) -> None:
    found = difference(trail(STATES, POINTS), trail(states, points))
    assert found is not None
    assert (found.step, found.line) == (step, words)


def test_a_result_and_a_length() -> None:
    found = difference(trail(STATES, POINTS, {"a": 1.0}), trail(STATES, POINTS, {"a": 2.0}))
    assert found is not None and found.names == ("result",)
    longer = {**STATES, 3: {"n": 3}}
    assert "end after 2 and 3 steps" in str(
        difference(trail(STATES, POINTS), trail(longer, POINTS))
    )


@given(
    st.dictionaries(st.integers(1, 6), st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)))
)
def test_a_run_never_differs_from_itself(states: dict[int, Any]) -> None:
    one = trail(states, {})
    assert difference(one, one) is None


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("loss", "loss", True), ("loss (2)", "loss", True), ("losses", "loss", False),
        ("envs.layers[0].time_queue.deque[1]", "*.time_queue*", True), ("envs.a[0]", "envs.a", True),
        ("net.w", "envs", False),
    ],
)  # fmt: skip
def test_what_is_left_out(name: str, pattern: str, fits: bool) -> None:
    assert is_ignored(name, [pattern]) is fits


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x = time.time()", "the time"),
        ("x = datetime.datetime.now()", "the time"),
        ("x = np.random.default_rng()", "without a seed"),
        ("x = random.Random(None)", "without a seed"),
        ("x = np.random.default_rng(3)", "not tracked"),
        ("a, x = 1, torch.Generator().manual_seed(3)", "not tracked"),
        ("x = uuid.uuid4()", "drawn from nowhere"),
        ("for x in {1, 2}: pass", "a set"),
        ("x = [y for y in set(z)]", "a set"),
        ("x = ', '.join({'a', 'b'})", "the order of a set"),
        ("group['lr'] = 3", "by hand"),
        ("x = run.attempt", "resumed run"),
        ("x = open('file')", "a file"),
    ],
)
def test_what_is_suspicious(line: str, words: str) -> None:
    found = looked_at(f"def task(run):\n    {line}\n", "tasks.py")
    assert any(words in item.words for item in found), found
    assert all(item.line == 2 for item in found)


@pytest.mark.parametrize(
    "line",
    ["x = sorted({1, 2})", "x = 3 in {1, 2}", "dice = np.random.default_rng(3); run.track(d=dice)"],
)
def test_what_is_not(line: str) -> None:
    assert looked_at(f"def task(run):\n    {line}\n", "tasks.py") == []


def test_what_the_run_does_not_use_is_passed_over() -> None:
    text = "def a(run):\n    b()\n\ndef b():\n    time.time()\n\ndef c():\n    uuid.uuid4()\n"
    assert [item.line for item in looked_at(text, "t.py", ["a"])] == [5]
    assert [item.line for item in looked_at(text, "t.py", ["other"])] == [5, 8]
    tree = {"task": {"_target_": "t.a"}, "list": [{"_target_": "x.y.B"}], "n": None}
    assert targets(tree) == {"a", "B"}
