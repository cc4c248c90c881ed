"""A recorded config with other values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.changes import changes_of, same
from crown_exp.config.compose import new_loader
from crown_exp.config.identity import deciding_differences
from crown_exp.config.layers import conf_layers, layered
from crown_exp.config.overrides import quoted_run, resumed_alone
from crown_exp.config.project import find_project
from crown_exp.config.recorded import overridden, typed_value
from crown_exp.errors import ConfigError

OK = "+experiment=ok"


def changes(project: Any, *typed: str, made: tuple[str, ...] = (OK,)) -> dict[str, Any]:
    """What overrides of a recorded config change in it."""
    old = project.config(*made)
    with layered(conf_layers(find_project(project.root))):
        composition, _ = overridden(new_loader(), old, typed, experiment="ok")
    return changes_of(old, composition.config)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], {}),
        (["seed=3"], {}),
        (["device.workers=2"], {"device.workers": 2}),
        (["++device.workers=2"], {"device.workers": 2}),
        (["limits={steps: 3}"], {"limits.steps": 3}),
        (["limits.run='2 hours'", "task.gain=3.0"], {"limits.run": "2 hours", "task.gain": 3.0}),
        (["env.size=${seed}"], {"env.size": 3 + 1}),
        (["device=cpu"], {"device.kind": "cpu"}),
        (["device=cpu", "device.workers=1"], {"device.kind": "cpu", "device.workers": 1}),
        (["env=nested"], {"env": {"_target_": "mine.Env", "inner": {"_target_": "mine.Env", "size": 4}}}),
        (["+teacher=big"], {"teacher": {"_target_": "mine.Teacher", "size": 30}}),
        (["task.text='a ${b}'"], {"task.text": "x"}),
    ],
)  # fmt: skip
def test_what_is_typed_is_laid_over(
    project: Any, typed: list[str], expected: dict[str, Any]
) -> None:
    if "${b}" in str(typed):
        with pytest.raises(ConfigError, match=r"task.text: \$\{b\} leads nowhere"):
            changes(project, *typed)
        return
    made = (OK, "seed=4") if "${seed}" in str(typed) else (OK,)
    assert changes(project, *typed, made=made) == expected


def test_a_text_that_was_resolved_is_not_resolved_again(project: Any) -> None:
    made = (OK, r"task.text='\${seed} and \\${seed}'")
    assert project.config(*made)["task"]["text"].startswith("${seed}")
    assert changes(project, "seed=9", made=made) == {"seed": 9}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("device.workesr=2", "device.workesr: no such key; did you mean workers?"),
        ("device.workers=-1", "device.workers: expected an int >= 0, got -1"),
        (
            "checkpoint.every=often",
            "checkpoint.every: expected '10 steps', '5 minutes' or auto, got",
        ),
        (
            "tracker=wnadb",
            "tracker=wnadb: group tracker has no option 'wnadb'; did you mean wandb?",
        ),
        ("env.size=1,2", "env.size=1,2: is several runs; one at a time: type one value"),
        ("experiment=ok", "experiment=ok: a recorded run keeps its preset"),
        ("+experiment=ok", "+experiment=ok: a recorded run keeps its preset"),
        ("hydra.verbose=true", "hydra.verbose=true: says how a run is composed"),
        ("tracker@x=none", "tracker@x=none: an option is taken where its group is: type tracker="),
        ("no/such=1", "no/such=1: no group 'no/such'"),
        ("~device.workesr", "~device.workesr: no such key; did you mean workers?"),
        ("env.szie=2", "env.szie: no such key; did you mean size?"),
        ("nonsense=2", "nonsense: no such key; "),
        ("device", "device: expected key=value"),
        ("env.size=[", "env.size=[: cannot be read"),
        ("device.kind.x=3", "device.kind"),
        ("seed=???", "seed: needs a value"),
    ],
)
def test_what_is_wrong_costs_a_line(project: Any, typed: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changes(project, typed)
    assert [str(one)[: len(expected)] for one in caught.value.problems] == [expected]


def test_the_keys_that_make_another_result(project: Any) -> None:
    old = project.config(OK, "task.gain=1.0", "task.count=1", "identity.ignore=[task.count]")
    new = project.config(
        OK, "task.gain=2.0", "seed=4", "env.names=[a]", "device.workers=3", "limits.steps=9",
        "task.count=7", "device.precision=fp32", "identity.ignore=[]",
    )  # fmt: skip
    assert deciding_differences(old, new, ["env"]) == {
        "task.gain": (1.0, 2.0), "env.names": (None, ["a"]), "seed": (3, 4), "limits.steps": (None, 9),
        "device.precision": ("auto", "fp32"),
    }  # fmt: skip
    assert deciding_differences(old, old, ["env"]) == {}
    assert deciding_differences(old, project.config(OK, "~env", "task=bare"), ["env"])["env"] == (
        old["env"], None,
    )  # fmt: skip


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    [
        "null",
        "True",
        "nan",
        "1",
        "1e3",
        "a b",
        "a,b",
        "'",
        '"',
        "\\",
        "\\'",
        "${seed}",
        "$x",
        "a=b",
        "[",
        "",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b_c", "d"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_is_typed_so_that_it_is_read_again(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    (read,) = OverridesParser.create().parse_overrides([f"x={typed_value(value)}"])
    cfg = OmegaConf.create({"x": read.value()})
    found = OmegaConf.to_container(cfg, resolve=True)
    assert same(found, {"x": value}), typed_value(value)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([OK], None),
        ([OK, "resume=k7f"], None),
        (["task=mine", "resume=k7f"], None),
        (["resume=null"], None),
        (["~resume"], None),
        (["resume=a,b"], None),
        (["resume=k7f", "["], None),
        (["resume=k7f"], ("k7f", [])),
        (["seed=3", "+resume=r261122-k7f", "env=small"], ("r261122-k7f", ["seed=3", "env=small"])),
        (["resume=234567"], ("234567", [])),
        (["resume=2e3456"], ("2e3456", [])),
    ],
)
def test_a_run_to_go_on_with_and_nothing_else_chosen(
    project: Any, typed: list[str], expected: tuple[str, list[str]] | None
) -> None:
    with layered(conf_layers(find_project(project.root))):
        assert resumed_alone(new_loader(), list(map(quoted_run, typed))) == expected
