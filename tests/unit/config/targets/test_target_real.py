from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from textwrap import dedent

import pytest

from crown_exp.config.targets import Target, TargetError, find_target


def names(target: Target) -> list[str]:
    return list(target.parameters)


needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")


@needs_torch
def test_adamw() -> None:
    found = find_target("torch.optim.AdamW")
    assert (found.kind, found.open) == ("class", False)
    assert found.doc.startswith("Implements AdamW algorithm")
    given = found.parameters
    assert [name for name, one in given.items() if one.required] == ["params"]
    assert str(given["lr"].kind) == "float"
    assert str(given["betas"].kind) == "[float, float]"
    assert (given["lr"].default_text, given["lr"].doc) == ("1e-3", "learning rate")
    assert given["weight_decay"].doc == "weight decay coefficient"
    assert not given["maximize"].positional
    assert str(find_target("torch.optim.SGD").parameters["momentum"].kind) == "float"


@needs_torch
def test_more_of_torch() -> None:
    cosine = find_target("torch.optim.lr_scheduler.CosineAnnealingLR")
    assert names(cosine)[:3] == ["optimizer", "T_max", "eta_min"]
    assert cosine.parameters["T_max"].doc == "Maximum number of iterations"
    linear = find_target("torch.nn.Linear")  # through a star import
    assert names(linear)[:3] == ["in_features", "out_features", "bias"]
    assert linear.parameters["bias"].default is True
    assert not linear.open
    loss = find_target("torch.nn.functional.cross_entropy")
    assert (loss.kind, loss.parameters["reduction"].default) == ("function", "mean")
    assert find_target("torch.tensor").kind == "unknown"
    with pytest.raises(TargetError, match=r"did you mean torch\.optim\.AdamW"):
        find_target("torch.optm.AdamW")
    with pytest.raises(TargetError, match=r"did you mean torch\.nn\.Linear"):
        find_target("torch.nn.Linera")


@needs_sklearn
def test_load_digits() -> None:
    found = find_target("sklearn.datasets.load_digits")
    assert names(found) == ["n_class", "return_X_y", "as_frame"]
    assert not found.open
    assert found.parameters["n_class"].doc == "The number of classes to return"


@needs_torch
def test_signatures_are_those_that_python_sees() -> None:
    """Nothing that Python accepts is refused, and nothing is required that Python does not."""
    import inspect

    import torch

    compared = 0
    modules = (torch.optim, torch.optim.lr_scheduler, torch.nn)
    for where, name in ((one.__name__, name) for one in modules for name in dir(one)):
        real = getattr(sys.modules[where], name)
        if name.startswith("_") or not inspect.isclass(real) or "torch" not in real.__module__:
            continue
        if (found := find_target(f"{where}.{name}")).open:
            continue
        seen = inspect.signature(real).parameters.values()
        if any(one.kind is one.VAR_KEYWORD for one in seen):
            continue
        keywords = [
            one.name for one in seen if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]
        required = [one.name for one in seen if one.name in keywords and one.default is one.empty]
        assert names(found) == keywords, name
        assert [key for key, one in found.parameters.items() if one.required] == required, name
        compared += 1
    assert compared > 100


@needs_torch
def test_nothing_is_imported() -> None:
    code = """
    import sys
    from crown_exp.config.targets import TargetError, find_target
    before = set(sys.modules)
    for target in ("torch.optim.AdamW", "torch.nn.Linear", "sklearn.datasets.load_digits"):
        try:
            find_target(target)
        except TargetError:
            pass
    print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True
    )
    assert {"torch", "sklearn", "numpy"}.isdisjoint(eval(done.stdout))
