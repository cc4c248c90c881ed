"""What a run's signature is made of. The stored ones below must never change: finished runs hold them."""

from __future__ import annotations

from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from crown_exp.config import identity, schema
from crown_exp.config.identity import deciding_parts
from crown_exp.identity import signature

STORED: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("stored_config.yaml").read_text())
BOUND = ("model", "dataset", "optimizer", "lr_schedule")
GOLDEN = "v1:53759c79f7c7b57f6a085ced9cf6e1b6fd13ddc90ef8c0bb74a5b88bd9f4362a"
GOLDEN_CHANGED = "v1:7d902dc992f3bacca2a1235b2043e3b0f252b4144025db634316a32ff36ab33e"


def signed(bound: tuple[str, ...] = BOUND, ignore: tuple[str, ...] = (), **changes: Any) -> str:
    """The signature of the stored config with some dotted keys (`a__b`) changed."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in STORED.items()}
    for name, value in changes.items():
        *sections, key = name.split("__")
        node = tree
        for section in sections:
            node = node[section]
        node[key] = value
    return signature(deciding_parts(tree, bound, ignore))


def test_the_stored_signatures_are_still_the_same() -> None:
    assert signed() == GOLDEN
    changed = signed(seed=7, device__precision="bf16", limits__steps=10, optimizer__lr=1)
    assert changed == GOLDEN_CHANGED


def test_a_framework_key_that_is_added_with_a_default_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = schema.option("new", "a key of a later version", decides=True)
    later = make_dataclass("Schema", [("brand_new", str, added)], bases=(schema.Schema,))
    keys = list(schema.leaves(later))
    monkeypatch.setattr(identity.schema, "leaves", lambda: iter(keys))
    assert signed(brand_new="new") == GOLDEN
    assert signed() == GOLDEN  # a config that was stored before the key was there
    assert signed(brand_new="other") != GOLDEN


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"device__precision": "bf16"},
        {"device__deterministic": True},
        {"limits__steps": 10},
        {"task__batch_size": 32},
        {"task___target_": "experiments.other.train"},
        {"model__width": 17},
        {"model": {"_target_": "experiments.image_classification.MLP"}},
        {"dataset__test_fraction": 0.3},
        {"optimizer__lr": 0.001},
        {"lr_schedule__T_max": 501},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_result(change: dict[str, Any]) -> None:
    assert signed(**change) != GOLDEN


@pytest.mark.parametrize(
    "change",
    [
        {"name": "mine"},
        {"tags": ["paper"]},
        {"device__kind": "cuda"},
        {"device__accumulate": 4},
        {"device__threads": 2},
        {"device__workers": 2},
        {"tracker__progress": "none"},
        {"compute__name": "elsewhere"},
        {"limits__attempt": "4 hours"},
        {"checkpoint__every": "10 steps"},
        {"limits__steps": None},
        {"teacher": {"_target_": "x.Y"}},  # not handed to the task
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not(change: dict[str, Any]) -> None:
    assert signed(**change) == GOLDEN


def test_numbers_that_are_equal_and_the_order_of_keys_do_not_matter() -> None:
    assert signed(optimizer__lr=1) == signed(optimizer__lr=1.0)
    backwards = {key: STORED[key] for key in reversed(STORED)}
    assert signature(deciding_parts(backwards, reversed(BOUND))) == GOLDEN


def test_each_bound_group_matters_and_no_other() -> None:
    for group in BOUND:
        assert signed(bound=tuple(name for name in BOUND if name != group)) != GOLDEN
    others = tuple(name for name in BOUND if name != "lr_schedule")
    assert signed(bound=others) == signed(bound=others, lr_schedule__T_max=9)


def test_the_user_may_say_that_a_key_decides_nothing() -> None:
    assert signed(ignore=("task.steps",)) == signed(ignore=("task.steps",), task__steps=9)
    assert signed(ignore=("seed",)) == signed(ignore=("seed",), seed=9)
    assert signed(ignore=("limits.steps",)) == signed(ignore=("limits.steps",), limits__steps=9)
    assert signed(ignore=("model",)) == signed(ignore=("model",), model__width=9)
    assert signed(ignore=("nothing.there", "seed.x")) == GOLDEN


def test_the_parts_are_a_copy() -> None:
    parts = deciding_parts(STORED, BOUND, ["model.width"])
    assert "width" not in parts["model"]
    assert STORED["model"]["width"] == 16


def test_the_shipped_experiment_is_signed_as_it_was(project: Any) -> None:
    """No torch, no machine, no file of ours may come into it: this is what `reuse` will look for."""
    composition, checked = project.sound("+experiment=ok", "+teacher=big")
    parts = deciding_parts(composition.config, checked.bound)
    assert sorted(parts) == ["env", "seed", "task", "teacher"]
