"""What every tracker does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crown_exp.tracking import Artifact, Point, TrackedRun, Tracker
from crown_exp.tracking.feed import Feed

ODD_NAMES = (
    "loss",
    "train/loss",
    "a.b",
    "a b",
    "überläufe.学習🦊",
    'quote"s',
    "back\\slash",
    "*",
    "step",
    "_step",
    "_timestamp",
    "x" * 300,
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080200000090"
    "7753de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
"""A picture of one pixel, as PNG."""

Row = tuple[int, dict[str, float]]


class TrackerContract:
    """What every `Tracker` does. Override `new_tracker`, and `arrived` if what was logged can be read back.

    Each run is fed as the runner feeds it, by a thread of its own; nothing may be told of but `start`'s line.
    """

    patience_seconds = 60.0
    """How long the end of a run may take in these tests."""

    @pytest.fixture
    def new_tracker(self) -> Callable[[], Tracker]:
        """Makes a tracker that has not started: the class, or a function."""
        raise NotImplementedError("override `new_tracker` with a fixture that returns the class")

    def arrived(self, run: TrackedRun) -> list[Row] | None:
        """(step, values) of all that the run's tracker has, in order; None: nobody can tell."""
        return None

    @pytest.fixture
    def run(self, tmp_path: Path) -> TrackedRun:
        """A run with what runs may have."""
        return TrackedRun(
            id="r261124-k7f3q2", name="cnn lr=0.1 überläufe 🦊", experiment="digits_cnn", sweep="s-1a2b",
            tags=("paper", "学習"), user="me", attempt=1, home=tmp_path / "home",
            config={"task": {"_target_": "mine.train", "steps": 10}, "seed": 0, "name": None,
                    "model": {"width": 16, "dropout": 0.5, "layers": [1, 2], "odd key.": math.inf}},
        )  # fmt: skip

    def feed(self, make: Callable[[], Tracker], run: TrackedRun) -> tuple[Feed, list[str]]:
        """A tracker at work, and what is told of it."""
        told: list[str] = []
        return Feed(
            make, "tracker", run, say=told.append, finish_seconds=self.patience_seconds
        ), told

    def track(
        self,
        make: Callable[[], Tracker],
        run: TrackedRun,
        items: Sequence[Point | Artifact] = (),
        end: tuple[int, Any] = (0, None),
    ) -> None:
        """Feed a run from its start to its end, and see that the tracker was not left out."""
        feed, told = self.feed(make, run)
        feed.queue(items)
        feed.finish(*end)
        assert not feed.out, told
        told = [line for line in told if not line.startswith("waiting for ")]  # a slow machine
        assert len(told) <= 1 and all("\n" not in line for line in told), told

    def check(self, run: TrackedRun, points: Sequence[Point]) -> None:
        """What arrived is what was logged, NaN for NaN."""
        rows = self.arrived(run)
        if rows is not None:
            logged = [(point.step, point.values) for point in points]
            assert json.dumps(rows, sort_keys=True) == json.dumps(logged, sort_keys=True)

    def test_it_keeps_every_point(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """Of thousands, to the last bit, in order."""
        points = [
            Point(step, 1.6e9 + step / 7, {"loss": 1 / step, "rate": step * math.pi * 1e-9})
            for step in range(1, 2001)
        ]
        self.track(new_tracker, run, points, (0, {"accuracy": 0.5, "by": {"class": [1, 2]}}))
        self.check(run, points)

    def test_it_takes_every_number(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """Also those that are none."""
        odd = (math.nan, math.inf, -math.inf, 0.0, 5e-324, 1.7e308, 2.0**53 + 2, 1e22)
        points = [Point(step, 1.6e9, {"value": value}) for step, value in enumerate(odd, 1)]
        self.track(new_tracker, run, points, (0, math.nan))
        self.check(run, points)

    def test_it_takes_every_name(self, new_tracker: Callable[[], Tracker], run: TrackedRun) -> None:
        """Any text; names that come and go; its own names, too, which it may change."""
        points = [Point(step, 1.6e9, {name: 1.0}) for step, name in enumerate(ODD_NAMES, 1)]
        self.track(new_tracker, run, [*points, Point(99, 1.6e9, dict.fromkeys(ODD_NAMES, 2.0))])
        rows = self.arrived(run)
        assert rows is None or [len(values) for _, values in rows] == [1] * len(points) + [
            len(ODD_NAMES)
        ]

    def test_it_takes_steps_as_they_come(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """The same step twice, a large one, an earlier one."""
        steps = (1, 1, 10**12, 5, 0)
        points = [Point(step, 1.6e9, {"loss": float(at)}) for at, step in enumerate(steps)]
        self.track(new_tracker, run, points)
        self.check(run, points)

    def test_an_attempt_goes_on_with_its_run(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """From an earlier step than the one before it came to."""
        first = [Point(step, 1.6e9 + step, {"loss": 1.0}) for step in range(1, 8)]
        self.track(new_tracker, run, first, (75, None))
        second = [Point(step, 1.7e9 + step, {"loss": 2.0}) for step in range(5, 11)]
        self.track(new_tracker, replace(run, attempt=2), second, (0, {"loss": 2.0}))
        self.check(run, [*first, *second])

    def test_a_resumed_attempt_leaves_no_hole_and_loses_nothing(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """It lives through steps again, with equal values; how often a tracker has those is its affair."""
        points = [Point(step, 1.6e9 + step, {"loss": 1 / step}) for step in range(1, 11)]
        self.track(new_tracker, run, points[:7], (75, None))
        again = replace(run, attempt=2, resumed=4, earlier=lambda: points[:4])
        self.track(new_tracker, again, points[4:], (0, None))
        rows = self.arrived(run)
        if rows is not None:
            assert {step: values["loss"] for step, values in rows} == {
                point.step: point.values["loss"] for point in points
            }

    def test_it_takes_files(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun, tmp_path: Path
    ) -> None:
        """Pictures and others, in folders, among points; also one that is gone again."""
        (tmp_path / "a.png").write_bytes(PIXEL)
        (tmp_path / "b.txt").write_bytes(b"text")
        (tmp_path / "c.png").write_bytes(b"no picture")
        points = [Point(1, 1.6e9, {"loss": 1.0}), Point(2, 1.6e9, {"loss": 2.0})]
        files = [
            Artifact("samples.png", 1, tmp_path / "a.png", "image"),
            Artifact("a b/[c]/überläufe*.txt", 1, tmp_path / "b.txt", "text"),
            Artifact("broken.png", 2, tmp_path / "c.png", "image"),
            Artifact("gone.txt", 2, tmp_path / "gone", "text"),
        ]
        self.track(new_tracker, run, [points[0], *files[:2], points[1], *files[2:]])
        self.check(run, points)

    @pytest.mark.parametrize("code", [1, 75, 130])
    def test_it_takes_every_end(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun, code: int
    ) -> None:
        """Also of a run that logged nothing."""
        self.track(new_tracker, run, end=(code, None))
        self.check(run, [])

    def test_runs_beside_each_other(
        self, new_tracker: Callable[[], Tracker], run: TrackedRun
    ) -> None:
        """Two at once in one process, and none gets the other's points."""
        runs = [replace(run, id=f"{run.id}-{number}") for number in range(2)]
        feeds = [self.feed(new_tracker, one) for one in runs]
        points = [Point(1, 1.6e9, {"which": 0.0}), Point(1, 1.6e9, {"which": 1.0})]
        for (feed, _), point in zip(feeds, points, strict=True):
            feed.take([point])
        for feed, told in feeds:
            feed.finish(0, None)
            assert not feed.out, told
        for one, point in zip(runs, points, strict=True):
            self.check(one, [point])
