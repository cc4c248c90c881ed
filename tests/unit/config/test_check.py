"""What is wrong with a composed config: the schema, signatures, the task's parameters."""

from __future__ import annotations

from typing import Any

import pytest

from crown_exp.config import schema
from crown_exp.config.check import check
from crown_exp.config.compose import Composition
from crown_exp.errors import ConfigError

OK = "+experiment=ok"


def found(config: dict[str, Any], groups: tuple[str, ...] = (), **choices: str) -> list[str]:
    """The problems of a tree over the schema's defaults."""
    tree = schema.defaults() | {"task": {"_target_": "json.dumps"}} | config
    try:
        check(Composition(tree, choices, ()), groups)
    except ConfigError as error:
        return str(error).splitlines()
    return []


# --- framework keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "seed: expected an int in [0, 4294967296) or null, got -1"),
        ("seed=1.5", "seed: expected an int"),
        ("seed=true", "seed: expected an int"),
        ("tags=paper", "tags: expected a list of str, got 'paper'"),
        ("tags=[1]", "tags: expected a str, got 1 at [0]"),
        ("name=[a]", "name: expected a str or null, got ['a']"),
        ("device.workers=-1", "device.workers: expected an int >= 0, got -1"),
        ("device.accumulate=0", "device.accumulate: expected an int >= 1, got 0"),
        ("device.precision=fp8", "device.precision: expected 'auto' | 'fp32' | 'tf32' | 'bf16' | 'fp16'"),
        ("tracker.progress=loud", "tracker.progress: expected 'auto' | 'bar' | 'lines' | 'none', got 'loud'"),
        ("limits={steps:1,stepz:2}", "limits.stepz: no such key; did you mean steps? ("),
        ("limits=3", "limits: expected keys (attempt, run, steps), got 3"),
        (
            "limits.attempt=soon",
            "limits.attempt: expected a time such as '5 minutes' or '4 hours', got 'soon'",
        ),
        (
            "limits.run='10 steps'",
            "limits.run: expected a time such as '5 minutes' or '4 hours', got '10 steps'",
        ),
        (
            "checkpoint.deadline='0 s'",
            "checkpoint.deadline: expected a time such as '5 minutes' or '4 hours', got '0 s'",
        ),
        (
            "checkpoint.every=often",
            "checkpoint.every: expected '10 steps', '5 minutes' or auto, got 'often'",
        ),
        (
            "checkpoint.every=10",
            "checkpoint.every: expected '10 steps', '5 minutes' or auto, got '10'",
        ),
        (
            "checkpoint.keep_every='5 minutes'",
            "checkpoint.keep_every: expected something like '1000 steps', got '5 minutes'",
        ),
        (
            "checkpoint.keep_best=accuracy",
            "checkpoint.keep_best: expected max or min and a metric, such as 'max accuracy', got "
            "'accuracy'",
        ),
        ("sweep.search=tpe", "sweep.search: not available in this version; leave it at 'grid'"),
        ("identity.ignore=[task.gian]", "identity.ignore: no key 'task.gian'; did you mean gain?"),
        ("identity.ignore=task.gain", "identity.ignore: expected a list of str, got 'task.gain'"),
        ("optimizer.lr=abc", "optimizer.lr: expected a float, got 'abc' (torch/optim/adamw.py:"),
        ("optimizer.betas=[0.9]", "optimizer.betas: expected [float, float], got [0.9]"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_or_out_of_range(
    project: Any, override: str, expected: str
) -> None:
    problems = project.problems(OK, override)
    assert len(problems) == 1
    # torch 2.4 to 2.13 write the type of lr and betas differently
    wanted = expected.split(", got")[0].split(":")[0] if "optimizer" in expected else expected
    assert problems[0].startswith(wanted)


def test_a_framework_key_that_is_missing_has_its_default(project: Any) -> None:
    assert project.config(OK, "~seed", "~limits")["limits"] == schema.defaults()["limits"]
    assert project.config(OK, "~seed")["seed"] == 0


# --- signatures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.amsgrad=true"],  # in no yaml, but in the signature
        ["env.names=[a,b]"],
        ["task.words=[a,'b c','ü,']"],
        ["task.table={a:1,b:{c:[2,3]}}"],
        ["task.text='x, y = 3 \"ünï\"'"],
        [r"task.text=a\,b"],
        ["task.mode=b"],
        ["task.gain=3"],  # an int is a float
        ["+teacher=big", "teacher.anything=1"],  # **rest
        ["+teacher={_target_:mine.Teacher,size:3}"],
        ["++teacher._target_=mine.Teacher", "++teacher.size=3"],
        ["env.inner={_target_:mine.Env,size:3}"],
        ["env._partial_=true"],
        ["env.size=${seed}", "task.count=${env.size}"],
        ["seed=null", "name=null"],
        ["~model"],
        ["device=cpu", "tracker=none"],
        ["limits.attempt=4h", "limits.run='2 days'", "checkpoint.deadline='90 s'"],
        ["checkpoint.every='10 steps'", "checkpoint.keep_every='1000 steps'"],
        ["checkpoint.every='5 minutes'", "checkpoint.keep_best='min loss'"],
        ["checkpoint.every=auto", "checkpoint.keep_every=null"],
    ],
)
def test_what_a_signature_takes_is_sound(project: Any, overrides: list[str]) -> None:
    assert project.problems(OK, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task.words=[a,3]"], "task.words: expected a str, got 3 at [1] (mine.py:9)"),
        (["task.mode=c"], "task.mode: expected 'a' | 'b', got 'c' (mine.py:9)"),
        (["task.count=0"], "task.count: expected an int > 0, got 0 (mine.py:9)"),
        (["task.gain={a:1}"], "task.gain: expected a float, got {'a': 1}"),
        (["task.gain.x=1"], "task.gain: expected a float, got {'x': 1}"),
        (["task.words.0=x"], "task.words: expected a list of str, got {'0': 'x'} (mine.py:9)"),
        (
            ["env.inner={_target_:mine.Env,szie:3}"],
            "env.inner.szie: no such key; did you mean size?",
        ),
        (
            ["env.names=[{_target_:mine.Env,szie:3}]"],
            "env.names.0.szie: no such key; did you mean size?",
        ),
        (
            ["env.inner={_target_:mine.Evn}"],
            "env.inner._target_: mine has no 'Evn'; did you mean mine.Env?",
        ),
        (["env._target_=mine.Env.x"], "env._target_: mine.Env has no 'x'"),
        (["env._target_=3"], "env._target_: '3' is not a name such as package.module.function"),
        (["teacher.size=3"], "teacher: no option of this group is chosen: type +teacher=<name>"),
        (["model.width=3"], "model: no option of this group is chosen: type model=<name>"),
        (["task.env=3"], "task.env: mine.train is handed the group env; set env.… or env=<name>"),
        (["+gain=3"], "gain: no such key; did you mean task.gain?"),
        (["+foo=3"], "foo: no such key; known: "),
    ],
)
def test_what_a_signature_does_not_take(project: Any, overrides: list[str], expected: str) -> None:
    problems = project.problems(OK, *overrides)
    assert [problem[: len(expected)] for problem in problems] == [expected]


# --- the task -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "task: nothing to run: choose a preset with +experiment=<name>, or task=<name>"),
        (["task=mine"], "env: mine.train needs it: choose +env=<name> (mine.py:9)"),
        (["task=needs"], "task.must: mine.needs needs it: type task.must=… (mine.py:15)"),
        (["task=needs", "task.must=???"], "task.must: needs a value: type task.must=…"),
        (["task=bare", "task.extra=1"], "task.extra: no such key"),
        (
            ["task=bare", "task._target_=mine.nothing"],
            "task._target_: the first parameter of a task must be",
        ),
        (
            ["task=bare", "task._target_=mine.backwards"],
            "task._target_: the first parameter of a task must",
        ),
        (
            ["task=bare", "task._target_=mine"],
            "task._target_: mine is a module, not a function or class",
        ),
        (["task=bare", "task._target_=null"], "task._target_: the task names no function"),
        (["task=bare", "task={a:1}"], "task.a: no such key"),
        (["+task={a:1}"], "task._target_: the task names no function"),
    ],
)
def test_a_task_and_its_parameters(project: Any, overrides: list[str], expected: str) -> None:
    problems = project.problems(*overrides)
    assert len(problems) == 1
    assert problems[0].startswith(expected)


def test_a_task_is_handed_the_groups_it_names(project: Any) -> None:
    assert project.sound(OK, "+teacher=big")[1].bound == ("env", "teacher")
    assert project.sound(OK)[1].bound == ("env",)
    assert project.sound(OK, "task=bare")[1].bound == ()


def test_a_task_that_takes_the_whole_config_is_decided_by_all_its_groups(project: Any) -> None:
    checked = project.sound("task=whole", "+env=small", "task.anything=1")[1]
    assert checked.whole
    assert set(checked.bound) == {"env", "optimizer"}


def test_a_framework_section_is_taken_from_the_run(project: Any) -> None:
    project.write("other.py", "def train(run, device): ...\n")
    problems = project.problems("task=bare", "task._target_=other.train")
    what = "other.train asks for device: take run.device instead (other.py:1)"
    assert problems == [f"task._target_: {what}"]


def test_a_group_defined_in_place_needs_no_folder(project: Any) -> None:
    project.write("mine.py", "def train(run, student): ...\n")
    project.write("conf/task/mine.yaml", "_target_: mine.train\n")
    checked = project.sound("task=mine", "+student={_target_:json.dumps}")[1]
    assert checked.bound == ("student",)


def test_a_target_whose_source_tells_nothing_takes_anything(project: Any) -> None:
    assert project.problems("task=bare", "task._target_=math.sin", "task.x=1") == []


ODD = """
from torch import nn
from crown_exp import Config

def train(run, modle: Config[nn.Module]): ...

def typo(run, modle): ...

def counts(run, mode: int): ...

def none(run): ...
"""


@pytest.fixture
def odd(project: Any) -> Any:
    project.write("odd.py", ODD)
    for name in ("train", "typo", "counts", "none"):
        project.write(f"conf/task/{name}.yaml", f"_target_: odd.{name}\n")
    project.write("conf/model/small.yaml", "_target_: mine.Env\n")
    project.write("conf/plain/x.yaml", "data: /x\n")
    return project


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=train", "model=small"], ["modle: odd.train has a parameter of this name, which nothing "
                                         "fills; did you mean model? (odd.py:5)"]),
        (["task=typo", "model=small"], ["modle: odd.typo has a parameter of this name, which nothing "
                                        "fills; did you mean model? (odd.py:7)"]),
        (["task=train"], ["modle: odd.train needs it: choose +modle=<name> (odd.py:5)"]),
        (["task=counts", "model=small"], [
            "model=small: odd.counts does not take model; it takes no group (odd.py:9)",
            "task.mode: odd.counts needs it: type task.mode=… (odd.py:9)"]),
        (["task=none", "model=small", "+env=small"], [
            "+env=small: odd.none does not take env; it takes no group (odd.py:11)",
            "model=small: odd.none does not take model; it takes no group (odd.py:11)"]),
        (
            [OK, "model=small"],
            ["model=small: mine.train does not take model; it takes env, teacher (mine.py:9)"],
        ),
        (["task=none", "task.x=3"], ["task.x: no such key; it takes none (odd.py:11)"]),
    ],
)  # fmt: skip
def test_a_group_that_the_task_does_not_take(
    odd: Any, overrides: list[str], expected: list[str]
) -> None:
    assert sorted(odd.problems(*overrides)) == expected


@pytest.mark.parametrize(
    "overrides",
    [
        ["task=none"],  # the optimizer of the defaults list is there for others
        [OK, "task=none"],  # and so is the env of the preset
        ["task=none", "device=cpu", "tracker=none", "+plain=x"],
        [OK, "model=small", "env.size=${model.size}", "model.size=3"],
        ["task=whole", "model=small"],
    ],
)
def test_a_group_nobody_takes_may_be_there_if_it_serves_or_was_not_typed(
    odd: Any, overrides: list[str]
) -> None:
    assert odd.problems(*overrides) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("env._target_=", "env._target_: names nothing: type package.module.function or a class"),
        ("env._target_=null", "env._target_: names nothing: type package.module.function or a class"),
        ("limits.run=3", "limits.run: expected a time such as '5 minutes' or '4 hours', got '3'"),
        ("env.size=${oc.env:NO_SUCH}", "env.size: Environment variable 'NO_SUCH' not found"),
        ("identity.ignore=[seed.x]", "identity.ignore: no key 'seed.x'; nothing is below it"),
    ],
)  # fmt: skip
def test_words_without_loose_ends(project: Any, override: str, expected: str) -> None:
    assert project.problems(OK, override)[0].startswith(expected)


def test_a_parameter_of_the_task_is_not_called_a_key_of_the_top(project: Any) -> None:
    (unlike,) = project.problems(OK, "+zzzzz=1")
    assert "gain" not in unlike
    assert "budget" in unlike
    (near,) = project.problems(OK, "+gian=1")
    assert near.startswith("gian: no such key; did you mean task.gain?")


def test_problems_in_a_tree_without_files() -> None:
    assert found({}) == []
    assert found({"modle": {}}, ("experiment",)) == ["modle: no such key; did you mean model?"]
    assert found({"model": 3}) == ["model: expected keys, got 3"]
    assert found({"model": {}}, model="x") == [
        "model=x: has no _target_: nothing says what to build"
    ]
    assert found({"device": None})[0].startswith("device: expected keys (kind, ")
    assert found({"paths": {"data": "/x"}}, ("paths",), paths="here") == []
    assert found({"task": 3}) == ["task: expected keys with a _target_, got 3"]
