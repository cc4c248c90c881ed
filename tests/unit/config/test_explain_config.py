"""Who set a key, in a project of a user's own; how it is shown is tests/unit/cli's matter."""

from __future__ import annotations

from typing import Any

import pytest

from crown_exp.config.explain import explain
from crown_exp.errors import ConfigError

OK = "+experiment=ok"


def test_a_key_of_a_users_own_group_is_explained_by_its_signature(project: Any) -> None:
    found = explain("env.size", [OK, "env.size=${seed}"])
    assert (found.value, found.type, found.defined) == (3, "int", "mine.py:24")
    assert [origin.place for origin in found.origins] == [
        "conf/env/small.yaml:2",
        "env.size=${seed}",
    ]
    assert found.origins[-1].value == "${seed}"


def test_a_layer_over_ours_is_named(project: Any) -> None:
    project.write("conf/optimizer/adamw.yaml", "_target_: torch.optim.AdamW\nlr: 7\n")
    found = explain("optimizer.lr", [OK])
    assert (found.value, [origin.place for origin in found.origins]) == (
        7, ["conf/optimizer/adamw.yaml:2"],
    )  # fmt: skip


def test_what_leads_nowhere_is_told_of_the_key_and_not_of_others(project: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        explain("task.text", [OK, "task.text=${task.gian}"])
    assert str(caught.value) == "task.text: ${task.gian} leads nowhere; did you mean ${task.gain}?"
    assert explain("task.gain", [OK, "task.text=${task.gian}"]).value == 2.0


def test_a_mistake_in_a_file_does_not_hinder_an_explanation_of_another_key(project: Any) -> None:
    preset = project.preset("x", "# @package _global_\ndefaults: [ok]\nsede: 3\n")
    assert explain("seed", [preset]).value == 3
