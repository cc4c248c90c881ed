from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.__main__ import guarded
from crown_exp.cli.explain import lines, show
from crown_exp.config.explain import Explanation
from crown_exp.config.origin import Origin
from crown_exp.config.project import builtin_conf

Capture = pytest.CaptureFixture[str]
DIGITS = "+experiment=digits_cnn"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builtin_conf().parent)


def explained(capsys: Capture, *typed: str) -> str:
    assert guarded(["explain", *typed]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    return out


def refused(capsys: Capture, *typed: str) -> str:
    assert guarded(["explain", *typed]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_a_value_is_told_with_its_meaning_and_everyone_who_set_it(capsys: Capture) -> None:
    out = explained(capsys, "optimizer.lr", DIGITS, "optimizer.lr=0.1")
    head, *rest = out.splitlines()
    assert head == "optimizer.lr = 0.1"
    assert rest[0].split() == ["type", "float"]
    places = [line.split() for line in rest[rest.index("set by, the last one counts:") + 1 : -1]]
    assert [value for value, *_ in places] == ["0.001", "0.003", "0.1"]
    assert places[0][1].startswith("conf/optimizer/adamw.yaml:")
    assert places[1][1].startswith("conf/experiment/digits_cnn.yaml:")
    assert places[2][1:] == ["override", "optimizer.lr=0.1"]
    assert rest[-1] == f"next: python -m crown_exp {DIGITS} optimizer.lr=…"


def test_a_framework_key_has_its_range_unit_and_words(capsys: Capture) -> None:
    out = explained(capsys, "limits.steps")
    assert "int > 0 or null" in out
    assert "unit     steps" in out
    assert "end every loop after this many turns" in out


def test_an_argument_that_no_yaml_sets_has_the_default_of_its_signature(capsys: Capture) -> None:
    out = explained(capsys, "optimizer.betas")
    assert out.startswith("optimizer.betas = (0.9, 0.999)\n")
    assert "the default of torch/optim/adamw.py:" in out


def test_a_section_is_told_key_by_key(capsys: Capture) -> None:
    shown = explained(capsys, "device", DIGITS).splitlines()
    assert shown[0] == "device"
    assert [line.split() for line in shown if line.startswith("  threads ")] == [["threads", "1"]]
    assert "options: auto, cpu, cuda, mps" in shown


def test_a_group_tells_its_options_before_anything_is_chosen(capsys: Capture) -> None:
    out = explained(capsys, "model")
    assert out.startswith("model = null\noptions: ")
    assert "cnn" in out and "mlp" in out
    assert out.endswith("next: python -m crown_exp model=<option>\n")
    assert explained(capsys, "experiment", DIGITS).startswith("experiment = digits_cnn\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["optimizer.lrr"], "optimizer.lrr: no such key; did you mean optimizer.lr?"),
        (["modle"], "modle: no such key; did you mean model?"),
        (["model.wdth", DIGITS], "model.wdth: no such key; did you mean model.width?"),
        (["seed.x"], "seed.x: no such key; nothing is below it"),
        (["model.width"], "model.width: no such key; no model is chosen: add model=<name> ("),
        (["optimizer.lr", "+experiment=digits_cn"], "did you mean digits_cnn?"),
        (["optimizer.lr", "optimzer=sgd"], "optimzer=sgd: no such key or group; did you mean opt"),
        (["optimizer.lr", "optimizer.lrr=3"], "optimizer.lrr: no such key; did you mean lr?"),
        (["seed", "optimizer.lr=fast"], "optimizer.lr: expected a float, got 'fast'"),
        (["seed", "limits.steps=0"], "limits.steps: expected"),
        (["seed", "model.width=3"], "model: no option of this group is chosen"),
        (["optimizer.lr", "optimizer.lr=1,2"], "optimizer.lr=1,2: is a sweep: give one of its"),
        (["optimizer.lr", "digits_cnn"], "digits_cnn: expected key=value"),
    ],
)
def test_a_mistake_is_one_line(typed: list[str], said: str, capsys: Capture) -> None:
    assert said in refused(capsys, *typed)


def test_a_secret_is_not_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery-staple")
    err = refused(capsys, "name", "name=${oc.env:SOME_API_KEY}")
    assert "looks like a secret" in err
    assert "horse" not in err


def test_json_has_all_of_it(capsys: Capture) -> None:
    assert guarded(["explain", "device.threads", DIGITS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["key"], told["value"], told["unit"]) == ("device.threads", 1, "threads")
    assert [origin["value"] for origin in told["origins"]] == [None, 1]
    assert {"type", "doc", "defined", "options"} <= told.keys()


words = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=12)
texts = st.lists(words, max_size=60).map(" ".join)
scalars = st.none() | st.booleans() | st.integers() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(words, inner))


@given(words, values, texts, texts, st.lists(words, max_size=30), st.lists(values, max_size=3))
def test_whatever_is_explained_fits_80_columns(
    key: str, value: Any, kind: str, doc: str, options: list[str], set_to: list[Any]
) -> None:
    origins = [Origin("conf/model/cnn.yaml:12", item) for item in set_to]
    found = Explanation(key, value, kind, "steps", doc, "torch/optim/adamw.py:7", options, origins)
    told = list(lines(found, ["+experiment=x"]))
    assert all(len(line) <= 80 for line in told)
    assert not any("\n" in line for line in told)
    shown = " ".join(" ".join(told).split())
    assert " ".join(doc.split()) in shown
    assert "set by, the last one counts:" in told
    assert sum(line.endswith("conf/model/cnn.yaml:12") for line in told) == len(set_to)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        ("auto", "auto"),
        ([1, "a"], '[1, "a"]'),
        ({"kind": "cpu", "threads": 1}, "kind: cpu, threads: 1"),
    ],
)
def test_values_are_shown_as_one_types_them(value: Any, shown: str) -> None:
    assert show(value) == shown
