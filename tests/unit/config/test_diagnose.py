"""Everything that is wrong with a command, in one pass, each in one line that names the file."""

from __future__ import annotations

from typing import Any

import pytest

OK = "+experiment=ok"
DEFAULTS = "# @package _global_\ndefaults:\n  - /env: small\n  - override /task: mine\n"


def test_a_sound_command_has_no_problem(project: Any) -> None:
    assert project.problems(OK) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+experiment=okk"], "+experiment=okk: group experiment has no option 'okk'; did you mean ok?"),
        (["experiment=ok"], "experiment=ok: experiment is not in the defaults list: type +experiment=ok"),
        (["+experimnt=ok"], "experimnt: no such key; did you mean experiment?"),
        ([OK, "optimzer=adamw"], "optimzer=adamw: no such key or group; did you mean optimizer?"),
        ([OK, "optimizer=sdg"], "optimizer=sdg: group optimizer has no option 'sdg'; did you mean sgd"),
        ([OK, "+optimizer=sgd"], "+optimizer=sgd: optimizer is in the defaults list already: type it without"),
        ([OK, "model=null"], "model=null: an empty group is typed ~model"),
        ([OK, "sede=3"], "sede=3: no such key or group; did you mean seed?"),
        ([OK, "+seed=3"], "+seed=3: seed is there already: type it without the plus"),
        ([OK, "+task.gain=3"], "+task.gain=3: task.gain is there already"),
        ([OK, "~task.gian"], "~task.gian: no such key; did you mean gain?"),
        ([OK, "~evn"], "~evn: no such key or group; did you mean env?"),
        ([OK, "teacher=big"], "teacher=big: teacher is not in the defaults list: type +teacher=big"),
        (
            [OK, "+env=nested"],
            "+env=nested: env is in the defaults list already: type it without the plus (conf/experiment/ok.",
        ),
        ([OK, "env/size=3"], "env/size=3: no group 'env/size'; did you mean env.size?"),
        ([OK, "evn/size=3"], "evn/size=3: no group 'evn/size'"),
        ([OK, "env@teacher=small"], "env@teacher=small: env@teacher is not in the defaults list: type +env@"),
        ([OK, "seed=["], "seed=[: cannot be read: no viable alternative at input '['"),
        ([OK, "name=ünï"], "name=ünï: cannot be read: a character in it must be quoted; type 'name=\"ünï\"'"),
        ([OK, "seed"], "seed: expected key=value; a word by itself comes first"),
        ([OK, "hydra.lancher=x"], "hydra.lancher=x: no such key; did you mean launcher?"),
        ([OK, "hydra/launcher=cron"], "hydra/launcher=cron: group hydra/launcher has no option 'cron'; did"),
        ([OK, "hydra.searchpath=[file:///no/where]"], "hydra.searchpath: no directory /no/where"),
    ],
)  # fmt: skip
def test_an_override_that_does_not_go(project: Any, overrides: list[str], expected: str) -> None:
    problems = project.problems(*overrides)
    assert len(problems) == 1
    assert problems[0].startswith(expected)


def test_a_group_that_is_chosen_twice(project: Any) -> None:
    """Of a key the last value counts, as in a script that passes on its arguments."""
    assert project.problems(OK, "env=small", "env=nested") == [
        "env=small env=nested: group env is chosen 2 times: keep one"
    ]
    assert project.config(OK, "seed=1", "seed=2")["seed"] == 2


def test_several_jobs_are_refused_with_all_else_that_is_wrong(project: Any) -> None:
    problems = project.problems(OK, "seed=1,2", "task.gain=choice(1,2,3)", "sede=3")
    assert problems[0].startswith(
        "seed=1,2 task.gain=choice(1,2,3): is a sweep of 6 runs; nothing was st"
    )
    assert problems[1].startswith("sede=3: no such key or group")
    assert project.problems(OK, "seed=interval(1,2)")[0].startswith(
        "seed=interval(1,2): is a search"
    )
    assert project.config(OK, "seed=choice(7)")["seed"] == 7


def test_all_mistakes_of_overrides_schema_and_signatures_are_told_at_once(project: Any) -> None:
    problems = project.problems(
        OK, "sede=3", "optimizer=sdg", "task.gian=3", "env.size=x", "limits.stepz=1", "device.kind=gpu",
        "task.count=0", "+teacher=bg", "task.text=${task.gein}",
    )  # fmt: skip
    assert [line.partition(":")[0] for line in problems] == [
        "sede=3", "optimizer=sdg", "+teacher=bg", "task.text", "limits.stepz", "device.kind", "env.size",
        "task.gian", "task.count",
    ]  # fmt: skip


def test_what_follows_from_another_mistake_is_not_told(project: Any) -> None:
    assert len(project.problems("task=mine", "+env=smal")) == 1
    assert len(project.problems("+experiment=okk", "env.size=3", "task.gain=1")) == 1


def test_every_value_of_a_swept_group_is_looked_at(project: Any) -> None:
    from crown_exp.config.compose import new_loader
    from crown_exp.config.diagnose import diagnose

    told = str(diagnose(new_loader(), ["optimizer=adamw,sdg,adma"])).splitlines()
    assert [line.partition(";")[0][-5:] for line in told] == ["'sdg'", "adma'"]


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULTS + "sede: 4\n", ["sede: no such key; did you mean seed or task.mode? (~x:5)"]),
        (
            DEFAULTS + "task:\n  gian: 3\n",
            ["task.gian: no such key; did you mean gain? (mine.py:9; written in ~x:6)"],
        ),
        (
            DEFAULTS + "limits:\n  steps: many\n",
            ["limits.steps: expected an int > 0 or null, got 'many' (~x:6)"],
        ),
        (
            "# @package _global_\ndefaults:\n  - /env: smal\n  - /teahcer: big\n  - override /task: mien\n",
            [
                "~x:3: defaults list: group env has no option 'smal'; did you mean small?",
                "~x:4: defaults list: no group 'teahcer'; did you mean teacher?",
                "~x:5: defaults list: group task has no option 'mien'; did you mean mine?",
            ],
        ),
        (
            "# @package _global_\ndefaults:\n  - override /task: mine\n  - /env: small\n",
            ["~x:4: defaults list: `override` lines come last; move this one above them"],
        ),
        (
            DEFAULTS + "  - override /teacher: big\n",
            ["~x:5: defaults list: teacher is in no defaults list; write `/teacher: …` "],
        ),
        (
            "# @package _global_\ndefaults:\n  - /env: small\n  - /model: cnn\n",
            ["~x:4: defaults list: model is chosen in "],
        ),
        (
            "# @package _global_\ndefaults:\n  - env: small\n",
            ["~x:3: defaults list: no group 'experiment/env'; names begin at this fold"],
        ),
        ("# @package _global_\ndefaults:\n  - nothere\n", ["~x:3: defaults list: no config 'nothere'"]),
        (
            "# @package _global_\ndefaults:\n  - override /task: ???\n",
            ["~x:3: defaults list: task is left open: type task=<name>"],
        ),
        ("defaults: mine\n", ["~x:1: defaults list: expected a list"]),
        ("defaults:\n  - {a: b, c: d}\n", ["~x:2: defaults list: expected lines `- group: option`"]),
        ("defaults:\n  - [a, b]\n", ["~x:2: defaults list: expected lines `- group: option`"]),
        ("defaults:\n  - 3\n", ["~x:2: defaults list: expected lines `- group: option`"]),
        (DEFAULTS + "seed: [1, 2\ntask: 3\n", ["~x:6: is not YAML: while parsing a flow sequence"]),
        (DEFAULTS + "task:\n\tgain: 3\n", ["~x:6: is not YAML: a tab cannot indent; use spaces"]),
        (DEFAULTS + "seed: 3\nseed: 4\n", ["~x:6: is not YAML: seed is set twice"]),
        (DEFAULTS + "task:\n  text: ${bad\n", ["~x:6: task.text: no viable alternative"]),
        (DEFAULTS + "task:\n  text: ${nowhere}\n", ["task.text: ${nowhere} leads nowhere (~x:6)"]),
        (DEFAULTS + "env: [1]\n", ["~x:5: env: expected keys, got a list"]),
        (DEFAULTS + "limits: 5\n", ["limits: expected keys (attempt, run, steps), got 5 (~x:5)"]),
        (DEFAULTS + "device:\n", ["device: expected keys (kind, precision, "]),
        ("", ["experiment=x: this preset is empty (~x)"]),
        ("# nothing\n", ["experiment=x: this preset is empty (~x)"]),
        ("- a\n- b\n", ["experiment=x: expected `key: value` lines, got ['a', 'b'] (~x)"]),
        ("# @package _global_\n- a\n", ["~x:2: expected `key: value` lines, got a list"]),
        ("seed: 3\n", ["experiment=x: a preset begins with the line `# @package _global_`"]),
        ("# @package _global_\nseed: 3\n", ["experiment=x: this preset chooses no task"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_told_with_its_line(
    project: Any, text: str, expected: list[str]
) -> None:
    problems = project.problems(project.preset("x", text))
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.replace("conf/experiment/x.yaml", "~x").startswith(start)


def test_a_file_that_is_no_text_is_named(project: Any) -> None:
    project.write("conf/experiment/x.yaml", b"\xff\xfe")
    assert project.problems("+experiment=x") == ["conf/experiment/x.yaml: is not UTF-8 text"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_target_: mine.Env\nsize: x\n", "env.size: expected an int, got 'x' (mine.py:23; written in ~x:2)"),
        ("_target_: mine.Env\nszie: 3\n", "env.szie: no such key; did you mean size? (mine.py:23; written"),
        ("_target_: mine.Evn\n", "env._target_: mine has no 'Evn'; did you mean mine.Env? (~x:1)"),
        ("_target_: mien.Env\n", "env._target_: no module 'mien'; did you mean mine.Env"),
        (
            "_target_: mine.Env\ninner:\n  _target_: mine.Env\n  szie: 1\n",
            "env.inner.szie: no such key; did you mean size? (mine.py:23; written in ~x:4)",
        ),
        ("- 1\n", "env=x: expected keys, got [1] (~x)"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_option_of_a_group(project: Any, text: str, expected: str) -> None:
    project.write("conf/env/x.yaml", text)
    problems = project.problems("task=mine", "+env=x")
    assert len(problems) == 1
    assert problems[0].replace("conf/env/x.yaml", "~x").startswith(expected)


def test_an_option_without_target_is_named(project: Any) -> None:
    project.write("conf/model/x.yaml", "hidden: 3\n")
    problems = project.problems(OK, "model=x")
    assert problems == ["model=x: has no _target_: nothing says what to build (conf/model/x.yaml)"]


def test_a_broken_file_that_is_not_chosen_does_no_harm(project: Any) -> None:
    project.write("conf/env/broken.yaml", "a: [\n")
    assert project.problems(OK) == []
    assert len(project.problems(OK, "sede=1")) == 1


# --- other primary configs ------------------------------------------------------------------------------


def test_a_primary_config_of_ones_own_needs_nothing_of_ours(project: Any) -> None:
    project.write("conf/mine.yaml", "defaults:\n  - task: mine\n  - env: small\n  - _self_\n")
    composition, _ = project.sound("seed=5", "limits.steps=2", config_name="mine")
    assert composition.config["seed"] == 5
    assert composition.config["device"]["kind"] == "auto"
    assert project.problems("sede=5", config_name="mine")[0].startswith("sede=5: no such key")


def test_a_primary_config_that_is_not_there(project: Any) -> None:
    problems = project.problems(config_name="confg")
    assert problems == ["--config-name confg: no such config; did you mean config?"]


def test_a_fault_in_the_primary_config_has_its_line(project: Any) -> None:
    project.write("conf/mine.yaml", "defaults:\n  - tsk: mine\n  - _self_\n")
    problems = project.problems(config_name="mine")
    assert problems == ["conf/mine.yaml:2: defaults list: no group 'tsk'; did you mean task?"]


def test_a_config_yaml_that_hides_ours_is_named_in_one_line(project: Any) -> None:
    project.write("conf/config.yaml", "a: 1\n")
    for overrides in (["+experiment=ok"], ["task=bare"]):
        (problem,) = project.problems(*overrides)
        assert problem.startswith("conf/config.yaml: hides the framework's config.yaml")
