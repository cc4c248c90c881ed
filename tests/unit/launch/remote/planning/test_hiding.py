"""A plan as it is shown: without the secrets that were typed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from crown_exp.launch.remote.base import Plan
from crown_exp.launch.remote.planning.hiding import without_secrets
from crown_exp.launch.remote.planning.plan_json import plan_json
from crown_exp.launch.remote.planning.table import plan_lines
from tests.unit.launch.remote.plans import planned

HF = "hf_" + "a1" * 18


def shown(overrides: list[str], config: dict[str, Any], **fields: Any) -> tuple[list[str], str]:
    """The overrides as they are shown, and all that is."""
    run = planned(name=config.pop("name", None))
    composition = replace(
        run.order.composition,
        config=run.order.composition.config | config,
        overrides=tuple(overrides),
    )
    order = replace(run.order, composition=composition, swept=overrides)
    plan = Plan((replace(run, order=order),), **fields)
    made = without_secrets(plan, {"MINE_API_KEY": "value-of-mine"})
    lines = "\n".join(plan_lines(made, width=1000, colour=False))
    told = plan_json(made)
    return told["runs"][0]["overrides"], lines + json.dumps(told)


@pytest.mark.parametrize(
    ("override", "config", "secret", "told"),
    [
        (f"task.note={HF}", {"note": HF}, HF, "task.note=***"),
        ("task.note=a value-of-mine", {"note": "a value-of-mine"}, "value-of", "task.note=***"),
        ("+task.password=hunter2", {"password": "hunter2"}, "hunter2", "+task.password=***"),
        (r"+task.password='it\'s'", {"password": "it's"}, r"it\'s", "+task.password=***"),
        (r"task.a={password: 'it\'s'}", {"a": {"password": "it's"}}, r"it\'s", "task.a=***"),
        ("task.a=[x,value-of-mine]", {"a": ["x", "value-of-mine"]}, "value-of", "task.a=***"),
        ("task.url=s3://u:pw-4@h/x", {"url": "s3://u:pw-4@h/x"}, "pw-4", "task.url=***"),
        ("task.lr=0.1", {"lr": 0.1}, "***", "task.lr=0.1"),
    ],
)
def test_an_override_is_shown_without_its_secret(
    override: str, config: dict[str, Any], secret: str, told: str
) -> None:
    overrides, text = shown([override, "seed=3"], {"task": config})
    assert overrides == [told, "seed=3"]
    assert secret not in text


def test_a_secret_that_another_key_takes_over_is_hidden_where_it_was_typed() -> None:
    typed = ["task.password=${task.word}", "task.word=hunter2"]
    overrides, text = shown(typed, {"task": {"password": "hunter2", "word": "hunter2"}})
    assert overrides == ["task.password=***", "task.word=***"]
    assert "hunter2" not in text


def test_names_refusals_and_warnings_hold_none() -> None:
    lines = (f"no file {HF}",)
    _, text = shown([f"name={HF}"], {"name": f"with {HF}"}, refused=lines, warnings=lines)
    assert HF[:8] not in text
    assert '"name": "***"' in text and text.count("no file ***") == 3
