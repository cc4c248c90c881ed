from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crown_exp.config.targets import Target, TargetError
from crown_exp.errors import CrownError

Write = Callable[..., None]
Find = Callable[[str], Target]
Fail = Callable[[str], TargetError]


@pytest.fixture
def project(write: Write) -> None:
    write(
        experiments__image_classification="""
        import os
        from torch import nn
        class CNN(nn.Module):
            def __init__(self, width=1): ...
        def train(run): ...
        def _hidden(): ...
        """,
        experiments__broken="x = 1\ndef f(:\n",
        experiments__other="from experiments.broken import f",
        toolbox____init__="from .parts import *\ndef build(): ...",
        toolbox__parts="class Linear: ...",
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "experiments.image_clasification.CNN",
            "no module 'experiments.image_clasification';"
            " did you mean experiments.image_classification.CNN?",
        ),
        (
            "expriments.image_classification.CNN",
            "no module 'expriments'; did you mean experiments.image_classification.CNN?",
        ),
        (
            "experiments.image_classification.CNM",
            "experiments.image_classification has no 'CNM';"
            " did you mean experiments.image_classification.CNN?",
        ),
        (
            "experiments.image_classification.zebra",
            "experiments.image_classification has no 'zebra'; known: CNN, train",
        ),
        (
            "experiments.image_classification",
            "experiments.image_classification is a module, not a function or class;"
            " known: CNN, train",
        ),
        (
            "experiments.imageclassification",
            "experiments has no 'imageclassification';"
            " did you mean experiments.image_classification?",
        ),
        ("toolbox.Linera", "toolbox has no 'Linera'; did you mean toolbox.Linear?"),
        ("toolbox.zebra", "toolbox has no 'zebra'; known: build, parts"),
        ("mathh.floor", "no module 'mathh'; did you mean math.floor or cmath.floor?"),
        ("dict", "no module 'dict'; did you mean builtins.dict?"),
        ("qqqqqqqqq.f", "no module 'qqqqqqqqq'"),
        ("a b.c", "'a b.c' is not a name such as package.module.function"),
        ("experiments..f", "'experiments..f' is not a name such as package.module.function"),
        ("", "'' is not a name such as package.module.function"),
    ],
)
def test_one_sentence_says_what_is_wrong(target: str, sentence: str, error: Fail) -> None:
    assert str(error(target)) == sentence


@pytest.mark.usefixtures("project")
def test_an_error_carries_its_parts(tmp_path: Path, error: Fail) -> None:
    wrong = error("experiments.image_classification.CNM")
    assert wrong.what == "experiments.image_classification has no 'CNM'"
    assert wrong.suggestions == ("experiments.image_classification.CNN",)
    assert wrong.source == str(tmp_path / "experiments" / "image_classification.py")
    assert isinstance(wrong, CrownError)
    assert wrong.exit_code == 2


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("target", ["experiments.broken.f", "experiments.other.f"])
def test_a_source_that_does_not_parse_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, error: Fail
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = error(target)
    assert str(wrong).startswith("cannot read experiments/broken.py:2: ")
    assert wrong.source == "experiments/broken.py:2"


def test_odd_sources_are_read(tmp_path: Path, find: Find, error: Fail) -> None:
    (tmp_path / "latin.py").write_bytes(
        "# -*- coding: latin-1 -*-\ndef f(a='é'): ...\n".encode("latin-1")
    )
    (tmp_path / "marked.py").write_bytes(b"\xef\xbb\xbfdef f(a=1):\r\n    '''\\d'''\r\n")
    (tmp_path / "nul.py").write_bytes(b"def f(): ...\n\0")
    assert find("latin.f").parameters["a"].default == "é"
    assert find("marked.f").parameters["a"].default_text == "1"
    assert "cannot read" in str(error("nul.f"))


def test_a_typo_in_a_package_that_makes_names_as_it_runs(
    write: Write, find: Find, error: Fail
) -> None:
    write(
        lazy____init__="NAMES = ['optik']\ndef __getattr__(name): return load(name)",
        lazy__optim="class Adam: ...",
    )
    assert str(error("lazy.optm.Adam")).endswith("did you mean lazy.optim.Adam?")
    for target in ("lazy.optik.Adam", "lazy.other.Adam", "lazy.optm"):
        assert find(target).kind == "unknown"
