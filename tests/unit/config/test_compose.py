"""From Hydra's config to a plain tree: resolved, complete, storable."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from crown_exp.config.compose import plain, relax, strict
from crown_exp.launch.submit import dump_config, load_config


def resolved(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A tree as Hydra would hand it over, resolved, with what is wrong with it."""
    hydra = OmegaConf.create({"overrides": {"task": []}, "runtime": {"choices": {}}})
    cfg = OmegaConf.create(tree)
    assert isinstance(cfg, DictConfig)
    composition, problems = plain(cfg, hydra)
    return composition.config, list(map(str, problems))


def test_interpolations_between_groups_are_resolved() -> None:
    config, problems = resolved(
        {"task": {"steps": 5}, "lr_schedule": {"T_max": "${task.steps}", "s": "n${task.steps}"}}
    )
    assert (config["lr_schedule"], problems) == ({"T_max": 5, "s": "n5"}, [])


def test_a_whole_section_can_be_interpolated() -> None:
    config, _ = resolved({"model": {"size": 3, "w": "${.size}"}, "teacher": "${model}"})
    assert config["teacher"] == {"size": 3, "w": 3}


def test_all_that_cannot_be_resolved_is_told_at_once() -> None:
    _, problems = resolved(
        {
            "task": {
                "steps": 5,
                "a": "${task.stpes}",
                "b": "???",
                "c": ["${x}", {"d": "${oc.env:NO_SUCH}"}],
            }
        }
    )
    assert problems == [
        "task.a: ${task.stpes} leads nowhere; did you mean ${task.steps}?",
        "task.b: needs a value: type task.b=…",
        "task.c.0: ${x} leads nowhere",
        "task.c.1.d: Environment variable 'NO_SUCH' not found",
    ]


def test_what_yaml_cannot_hold_is_refused() -> None:
    from pathlib import Path

    config, problems = resolved({"task": {"path": Path("/x"), "raw": b"x"}})
    assert config["task"]["path"] == "/x"
    assert problems == ["task.raw: is a bytes; a config holds numbers, strings, lists and mappings"]


def test_a_loop_of_interpolations_is_one_line() -> None:
    _, problems = resolved({"task": {"a": "${task.b}", "b": "${task.a}"}})
    assert all("\n" not in problem for problem in problems)
    assert len(problems) == 2


def test_what_is_not_set_has_the_schemas_default() -> None:
    config, _ = resolved({"limits": {"steps": 3}, "mine": {"x": 1}})
    assert config["limits"] == {"attempt": None, "run": None, "steps": 3}
    assert config["seed"] == 0
    assert list(config)[-1] == "mine"


def test_what_was_composed_is_stored_as_it_is(project: Any) -> None:
    config = project.config(
        "+experiment=ok", "task.text='a: [b], {c} ünï # d'", "tags=['1', 'null', no]"
    )
    assert "hydra" not in config
    assert load_config(dump_config(config)) == config
    assert yaml.safe_load(dump_config(config)) == config


def test_choices_and_overrides_are_kept_as_they_were_typed(project: Any) -> None:
    typed = ("+experiment=ok", "device=cpu", "env.size=${seed}", "limits={steps: 3}", "~model")
    composition, _ = project.sound(*typed, "hydra.verbose=false")
    assert composition.overrides == typed
    assert composition.choices["experiment"] == "ok"
    assert composition.choices["device"] == "cpu"
    assert composition.choices["env"] == "small"
    assert composition.choices["dataset"] is None


@pytest.mark.parametrize(
    ("typed", "relaxed"),
    [
        ("optimizer.lr=1", "++optimizer.lr=1"),
        ("a.b.c=[1,2]", "++a.b.c=[1,2]"),
        ("limits={steps:3}", "++limits={steps:3}"),
        ("seed=3", "++seed=3"),
        ("optimizer=sgd", "optimizer=sgd"),
        ("+optimizer.lr=1", "+optimizer.lr=1"),
        ("~optimizer.lr", "~optimizer.lr"),
        ("hydra.verbose=true", "hydra.verbose=true"),
        ("hydra/launcher=basic", "hydra/launcher=basic"),
        ("db@src=x", "db@src=x"),
        ("seeds=3", "seeds=3"),
        ("no equals", "no equals"),
    ],
)
def test_keys_below_a_group_are_left_to_its_signature(typed: str, relaxed: str) -> None:
    assert relax([typed]) == [relaxed]
    assert strict(relaxed) == typed
