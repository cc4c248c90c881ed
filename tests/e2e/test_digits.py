"""digits_cnn, as it is shipped, trained for real: it learns, and the same seed gives the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import crown_exp
from crown_exp.folder import decode_segment

ROOT = Path(crown_exp.__file__).parents[1]
SHORT = ("+experiment=digits_cnn", "task.steps=40")


@contextmanager
def here(home: Path) -> Iterator[None]:
    """In the checkout, with a store elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("CROWN_HOME", str(home))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> crown_exp.face.Started:
    """The preset, to its end."""
    with here(tmp_path_factory.mktemp("home")):
        return crown_exp.start("+experiment=digits_cnn")


def bits(started: Any) -> list[Any]:
    """Everything a run computed: its result and its curve, floats as hexadecimal."""
    assert isinstance(started.folder, Path)
    found: list[Any] = [{name: value.hex() for name, value in started.result.items()}]
    for path in sorted((started.folder / "log").glob("*.seg")):
        for batch in decode_segment(path.read_bytes()).batches:
            found += [
                (step, {name: value.hex() for name, value in values.items()})
                for kind, step, _, values in batch
                if kind == "m"
            ]
    return found


def test_it_learns(whole: crown_exp.face.Started) -> None:
    assert whole.result["accuracy"] >= 0.97
    assert whole.result["best_accuracy"] >= whole.result["accuracy"]


def test_its_curve_is_whole(whole: crown_exp.face.Started) -> None:
    points = bits(whole)[1:]
    losses = [step for step, values in points if "loss" in values]
    tests = [step for step, values in points if "test_accuracy" in values]
    assert losses == list(range(1, 501))
    assert tests == [101, 201, 301, 401]


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Any]:
    """Starts a short variant here; returns its bits."""
    with here(tmp_path):
        yield lambda *overrides: bits(crown_exp.start(*SHORT, *overrides))


PROGRAM = """
import sys, json, crown_exp
from tests.e2e.test_digits import bits, SHORT
json.dump(bits(crown_exp.start(*SHORT)), sys.stdout)
"""


def test_the_same_seed_gives_the_same_bits_anywhere(short: Any) -> None:
    first = short()
    assert len(first) == 41
    assert short() == first
    assert short("device.workers=2") == first
    assert short("seed=1") != first
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(first))


@pytest.mark.full
def test_the_whole_preset_on_two_workers(whole: crown_exp.face.Started, tmp_path: Path) -> None:
    with here(tmp_path):
        assert bits(crown_exp.start("+experiment=digits_cnn", "device.workers=2")) == bits(whole)


def test_bf16(short: Any) -> None:
    with pytest.raises(crown_exp.errors.ConfigError, match="fp16 is not available on this cpu"):
        short("device=cpu", "device.precision=fp16")
    found = short("device=cpu", "device.precision=bf16", "task.steps=60")
    assert float.fromhex(found[0]["accuracy"]) > 0.5
