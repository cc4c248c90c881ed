"""W&B, and a tracker as a user writes one, keep the contract of trackers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import pytest

from crown_exp.testing import TrackerContract
from crown_exp.tracking import Artifact, Point, TrackedRun, Tracker
from crown_exp.tracking.wandb import WandB
from tests import wandb_files
from tests.wandb_server import wandb_server

pytest.importorskip("wandb", reason="W&B is not installed")


def patient(tracker: WandB) -> WandB:
    """As it is, but that it waits longer for W&B's end: a machine may be busy, or stand still."""
    tracker.finish_seconds = 120
    return tracker


class TestWandBOffline(TrackerContract):
    patience_seconds = 110.0

    @pytest.fixture
    def new_tracker(self) -> Callable[[], Tracker]:
        return lambda: patient(WandB("tests", mode="offline"))

    def arrived(self, run: TrackedRun) -> list[tuple[int, dict[str, float]]]:
        return wandb_files.rows(run.home, run.id)


@pytest.mark.full
class TestWandBOnline(TrackerContract):
    """Against a stand-in for its server, which the real client talks to."""

    patience_seconds = 110.0

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with wandb_server() as server:
            monkeypatch.setenv("WANDB_BASE_URL", server.url)
            monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
            self.there = server.runs
            yield

    @pytest.fixture
    def new_tracker(self) -> Callable[[], Tracker]:
        return lambda: patient(WandB("tests"))

    def arrived(self, run: TrackedRun) -> list[tuple[int, dict[str, float]]]:
        return wandb_files.points(self.there[run.id].history)


class TestWandBDisabled(TrackerContract):
    @pytest.fixture
    def new_tracker(self) -> Callable[[], Tracker]:
        return lambda: WandB(mode="disabled")


class Lines:
    """A file of JSON lines for each run."""

    def start(self, run: TrackedRun) -> str | None:
        run.home.mkdir(parents=True, exist_ok=True)
        self.stream: TextIO = (run.home / f"{run.id}.jsonl").open("a")
        return None

    def log(self, points: Sequence[Point]) -> None:
        self.stream.writelines(json.dumps([point.step, point.values]) + "\n" for point in points)

    def artifact(self, artifact: Artifact) -> None:
        pass

    def finish(self, exit_code: int, result: Any) -> None:
        self.stream.close()


class TestLines(TrackerContract):
    @pytest.fixture
    def new_tracker(self) -> Callable[[], Tracker]:
        return Lines

    def arrived(self, run: TrackedRun) -> list[tuple[int, dict[str, float]]]:
        lines = (run.home / f"{run.id}.jsonl").read_text().splitlines()
        return [(step, values) for step, values in map(json.loads, lines)]
