"""Hydra's own launchers carry our runs out too: joblib (basic and submitit_local: test_sweeps.py)."""

from __future__ import annotations

import os
from typing import Any

import pytest

QUICK = "+experiment=quick"


def test_joblib_gives_values_back_and_a_failure_hides_no_other(crown: Any) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    said = crown(
        "-m", QUICK, "task.gain=1,2", "task.fail='',raise",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    assert said.code == 1
    results = crown.results()
    assert sorted(result["gain"] for result in results.values()) == [1, 2]
    assert os.getpid() not in {result["pid"] for result in results.values()}
