"""What people read of an attempt: a line at its start, progress, its result and what to type next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from crown_exp.config.places import display
from crown_exp.devices import Choice
from crown_exp.folder import AttemptRecord, RunRecord
from crown_exp.outcome import STATE_OF_EXIT, ExitCode
from crown_exp.runner.ending import Ending
from crown_exp.tracking.base import Sink
from crown_exp.tracking.console import Console, Progress, duration


class Report:
    """Writes to one stream; `tracker.progress` says how much."""

    def __init__(
        self,
        stream: TextIO,
        record: RunRecord,
        attempt: AttemptRecord,
        progress: Progress,
        tracker: Mapping[str, Any],
    ) -> None:
        self.stream, self.record, self.attempt, self.progress = stream, record, attempt, progress
        self.mode = tracker["progress"]
        self.started = time.monotonic()

    def sinks(self) -> list[Sink]:
        """The console, unless it was switched off."""
        if self.mode == "none":
            return []
        bar = self.mode == "bar" or (self.mode == "auto" and self.stream.isatty())
        return [Console(self.progress, self.stream, bar=bar)]

    def begin(self, choice: Choice | None) -> None:
        """Who runs, where and why there."""
        sweep = self.record.sweep
        place = f"  run {sweep['number']} of {sweep['of'] or '?'}" if sweep else ""
        device = f"  {choice.device} ({choice.reason})" if choice else ""
        again = f"  attempt {self.attempt.attempt}" if self.attempt.attempt > 1 else ""
        self.line(f"{self.record.name}  {self.record.id}{place}{again}{device}")

    def end(self, ending: Ending, folder: Path | str) -> None:
        """How it ended, with the result, the folder, and what to type next."""
        if ending.told:
            self.line(ending.told.rstrip("\n"))
        state = STATE_OF_EXIT.get(ExitCode(ending.exit_code), "ended")
        took = duration(time.monotonic() - self.started)
        why = "" if ending.exit_code in (ExitCode.OK, ExitCode.RAISED) else f": {ending.error}"
        self.line(f"{self.record.id} {state} after {ending.step} steps in {took}{why}")
        for name, value in named(ending.result).items():
            self.line(f"  {name:<16} {value}")
        self.line(f"folder  {display(folder) if isinstance(folder, Path) else folder}")
        if self.record.sweep is None:
            self.line(f"next    {next_words(self.record, ending)}")

    def line(self, text: str) -> None:
        """One line, at once."""
        self.stream.write(f"{text}\n")
        self.stream.flush()


def named(result: Any) -> dict[str, str]:
    """A result as names and short values."""
    if result is None:
        return {}
    items = result.items() if isinstance(result, dict) else [("result", result)]
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in items
    }


def next_words(record: RunRecord, ending: Ending) -> str:
    """The command that makes most sense after this end."""
    preset = f"+experiment={record.experiment}" if record.experiment else f"task={record.task}"
    if ending.exit_code == ExitCode.OK:
        return f"python -m crown_exp -m {preset} seed=1,2,3"
    return f"python -m crown_exp {' '.join(record.overrides) or preset}"
