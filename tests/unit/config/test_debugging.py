"""What debug=true makes of a config."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.debugging import TURNS, debugged, is_typed
from crown_exp.config.identity import deciding_parts
from crown_exp.config.schema import defaults, leaves

WANDB = {"_target_": "crown_exp.tracking.wandb.WandB", "project": "mine", "progress": "lines"}


def config(**changes: Any) -> dict[str, Any]:
    """The schema's defaults with a task and these values, by dotted path with __ for the dot."""
    tree = defaults() | {"task": {"_target_": "tasks.train", "lr": 0.1}, "model": {"width": 8}}
    for path, value in changes.items():
        *owners, name = path.split("__")
        node = tree
        for owner in owners:
            node = node[owner]
        node[name] = value
    return tree


BUSY = {"device__workers": 4, "device__compile": True, "limits__steps": 1000, "tracker": WANDB}


def test_what_is_changed_and_what_is_said_of_it() -> None:
    made = debugged(config(**BUSY), [])
    assert made.config["device"]["workers"] == 0
    assert made.config["device"]["compile"] is False
    assert made.config["limits"]["steps"] == TURNS
    assert made.config["tracker"] == {"progress": "lines"}
    assert made.line == (
        "debug: 5 turns of each loop (was 1000), no workers (was 4), no compile (was true), "
        "no WandB, nothing is kept"
    )


def test_only_what_really_changed_is_said() -> None:
    assert debugged(config(), []).line == "debug: 5 turns of each loop, nothing is kept"
    assert debugged(config(limits__steps=3), []).line == "debug: nothing is kept"
    assert debugged(config(limits__steps=3), []).config["limits"]["steps"] == 3
    compiled = debugged(config(limits__steps=3, device__compile="auto"), [])
    assert compiled.line == "debug: no compile (was auto), nothing is kept"


@pytest.mark.parametrize(
    ("typed", "path", "value"),
    [
        ("limits.steps=50", ("limits", "steps"), 1000),
        ("++limits.steps=50", ("limits", "steps"), 1000),
        ("limits={attempt: null, steps: 1000}", ("limits", "steps"), 1000),
        ("limits={steps:1000}", ("limits", "steps"), 1000),
        ("device.workers=4", ("device", "workers"), 4),
        ("device.compile=true", ("device", "compile"), True),
        ("tracker._target_=mine.Tracker", ("tracker", "_target_"), WANDB["_target_"]),
        # what is no such key
        ("+experiment=fast", ("limits", "steps"), TURNS),
        ("limits={attempts_steps: 3}", ("limits", "steps"), TURNS),
        ("task.steps=50", ("limits", "steps"), TURNS),
        ("device=cuda", ("device", "workers"), 0),
        ("tracker=wandb", ("tracker", "_target_"), None),
    ],
)
def test_a_key_that_was_typed_stays(typed: str, path: tuple[str, str], value: Any) -> None:
    made = debugged(config(**BUSY), ["debug=true", typed]).config
    assert made[path[0]].get(path[1]) == value


def test_a_typed_key_is_found_in_a_dict_only_by_its_whole_name() -> None:
    assert is_typed("limits.steps", ['limits={"steps": 3}'])
    assert not is_typed("limits.steps", ["limits={run: steps}"])
    assert not is_typed("limits.steps", ["other={steps: 3}"])


@given(
    workers=st.integers(0, 8), limit=st.none() | st.integers(1, 20),
    compiled=st.sampled_from([False, True, "auto"]),
    tracker=st.sampled_from([{"progress": "auto"}, WANDB]), seed=st.integers(0, 9),
)  # fmt: skip
def test_nothing_else_changes_and_the_given_config_never(
    workers: int, limit: int | None, compiled: Any, tracker: Any, seed: int
) -> None:
    given = config(
        device__workers=workers, limits__steps=limit, device__compile=compiled, tracker=tracker,
        seed=seed, debug=True,
    )  # fmt: skip
    before = copy.deepcopy(given)
    made = debugged(given, []).config
    assert given == before
    assert debugged(made, []).config == made  # there is nothing left to change
    for key in (item.path for item in leaves()):
        if key not in ("device.workers", "device.compile", "limits.steps"):
            assert at(made, key) == at(given, key), key
    assert 1 <= made["limits"]["steps"] <= TURNS
    parts, same = (deciding_parts(tree, ["model"], ["limits.steps"]) for tree in (given, made))
    assert parts == same  # but for the number of turns it is the same run


def at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree
