"""What a task does, so that its runs can be compared, swept and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crown_exp.folder import decode_segment


@dataclass(frozen=True)
class Done:
    """A run as its contract compares it: what it returned, and (step, values) of all that it logged."""

    result: Any
    logged: list[tuple[int, dict[str, float]]]

    def text(self) -> str:
        """The same text for the same bits: NaN equals NaN."""
        return json.dumps([self.result, self.logged], indent=1, sort_keys=True)


class TaskContract:
    """What a task does, so that its runs can be compared, swept and resumed.

    overrides: a short run of the task, as it is typed on the command line. Its runs are made in pytest's
    current directory, as `crown_exp.start` makes them, and kept in a temporary folder.
    """

    overrides: tuple[str, ...] = ()

    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
        """Runs the task with further overrides."""
        from crown_exp import start

        if not self.overrides:
            raise NotImplementedError("set `overrides` to a short run: ('+experiment=mine', …)")
        monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("CROWN_STORAGE__ROOT", str(tmp_path / "store"))

        def run(*more: str) -> Done:
            started = start(*self.overrides, *more)
            return Done(started.result, logged(Path(started.folder)))

        return run

    def test_it_completes_and_returns_a_result(self, run: Callable[..., Done]) -> None:
        """Numbers, strings, lists or dicts of them: what tables and sweeps see of a run."""
        assert run().result is not None, "the task returns nothing: return {'accuracy': …}"

    def test_the_same_seed_gives_the_same_bits(self, run: Callable[..., Done]) -> None:
        """On any number of workers. What differs draws from a generator that `seed` does not reach."""
        first = run().text()
        assert run().text() == first
        assert run("device.workers=1").text() == first

    def test_it_can_end_early(self, run: Callable[..., Done]) -> None:
        """After a single turn of each loop, as a limit or the search of a sweep may ask."""
        run("limits.steps=1")


def logged(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """All that a run logged, in order."""
    segments = [decode_segment(path.read_bytes()) for path in sorted(folder.glob("log/*.seg"))]
    records = [record for segment in segments for batch in segment.batches for record in batch]
    return [(record[1], record[3]) for record in records if record[0] == "m"]
