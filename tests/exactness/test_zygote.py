"""A command that is forked is one that is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.exactness.zygote import ONE_THREAD, RUNNER, Zygote
from tests.running import Project

TASKS = """
import os


def train(run):
    return {"environment": {key: os.environ[key] for key in sorted(os.environ)}}
"""


def test_it_sees_the_same_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.write(tmp_path / "project", TASKS)
    with monkeypatch.context() as developer:
        developer.setenv("AWS_PROFILE", "mine")
        developer.setenv("WANDB_API_KEY", "real")
        zygote = Zygote.preloaded(RUNNER)
    own = {*ONE_THREAD, "PYTHONHASHSEED"}
    seen = []
    with zygote:
        for project.zygote in (None, zygote):
            done = project.crown("task=train", env={"MORE": "1"})
            assert done.returncode == 0, done.stdout
            told = json.loads((project.runs[-1] / "result.json").read_text())["result"]
            seen.append({k: v for k, v in told["environment"].items() if k not in own})
    started, forked = seen
    assert started == forked
    assert started["MORE"] == "1"
