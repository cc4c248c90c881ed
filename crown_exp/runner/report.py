"""What people read of an attempt: a line at its start, progress, its result and what to type next."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from crown_exp.config.places import display
from crown_exp.devices import Choice
from crown_exp.folder import AttemptRecord, RunRecord
from crown_exp.outcome import STATE_OF_EXIT, STOPS, ExitCode
from crown_exp.runner.ending import Ending
from crown_exp.runner.parts import Parts, in_parts
from crown_exp.tracking.console import Console, Mode
from crown_exp.tracking.transfer import duration


class Report:
    """Writes to one stream; `tracker.progress` says how much of the progress.

    address: what one types to name the run, where its id alone does not: it is in a store of its own.
    """

    def __init__(
        self, stream: TextIO, record: RunRecord, tracker: Mapping[str, Any], address: str = ""
    ) -> None:
        self.stream, self.record, self.address = stream, record, address
        self.console = Console(stream, mode_of(tracker["progress"], stream))
        self.started = self.took = 0.0
        self.told_of: Choice | None = None

    def begin(self, attempt: AttemptRecord, choice: Choice | None, parts: Parts) -> None:
        """Who runs, where and why there (now or when it is chosen), and how batches are cut if not as asked."""
        self.started = time.monotonic()
        sweep = self.record.sweep
        place = f"  run {sweep['number']} of {sweep['of'] or '?'}" if sweep else ""
        self.told_of = choice
        device = f"  {choice.device} ({choice.reason})" if choice else ""
        again = f"  attempt {attempt.attempt}" if attempt.attempt > 1 else ""
        self.line(f"{self.record.name}  {self.record.id}{place}{again}{device}")
        if parts.count > parts.asked:
            self.line(f"{in_parts(parts.count)}, since memory ran out before with fewer")

    def resumed(self, step: int, lost: int) -> None:
        """From where the attempt goes on, and how many steps have to be done again."""
        again = f", {lost} step{'' if lost == 1 else 's'} done again" if lost else ""
        if step:
            self.line(f"goes on after step {step}{again}")
        else:
            self.line(f"begins again from the start: nothing was saved{again}")

    def device(self, choice: Choice) -> None:
        """The device, if it was chosen only now."""
        if self.told_of is None:
            self.line(f"device  {choice.device} ({choice.reason})")
        self.told_of = choice

    def stop_clock(self) -> None:
        """The task has ended; what comes is not its time."""
        self.took = time.monotonic() - self.started

    def end(self, ending: Ending, folder: Path | str | None, memory: Mapping[str, int]) -> None:
        """How it ended, with the result, the folder, and what to type next.

        folder: None of a debug run, which leaves none. memory: its peaks, in bytes.
        """
        if ending.parts is not None:
            self.line(ending.error)
            return
        if ending.told:
            self.line(ending.told.rstrip("\n"))
        state = STATE_OF_EXIT.get(ExitCode(ending.exit_code), "ended")
        if ending.exit_code == ExitCode.INFRASTRUCTURE and ending.unwritten:
            state = "not recorded"
        took = duration(self.took)
        steps = f"{ending.step} step{'' if ending.step == 1 else 's'}"
        why = f": {ending.error}" if ending.error and not ending.told else ""
        peaks = " + ".join(f"{count / 1e6:,.0f} MB" for count in memory.values())
        self.line(f"{self.record.id} {state} after {steps} in {took}{peaks and f', {peaks}'}{why}")
        self.result(ending.result)
        for what in ending.unwritten:
            self.line(f"not written: {what}")
        if folder is not None:
            self.line(f"folder  {display(folder) if isinstance(folder, Path) else folder}")
        if self.record.sweep is None:
            self.line(f"next    {next_words(self.record, ending, folder, self.address)}")

    def already(self, ending: Ending) -> None:
        """The run ended before, for good."""
        how = "is completed" if ending.exit_code == ExitCode.OK else f"failed ({ending.error})"
        self.line(f"{self.record.id} {how} already; nothing was run")
        self.result(ending.result)

    def result(self, result: Any) -> None:
        """What the task returned, a line a value."""
        for name, value in named(result).items():
            self.line(f"  {name:<16} {value}")

    def line(self, text: str) -> None:
        """One line, at once; nothing if nobody reads any more."""
        with suppress(OSError, ValueError):
            self.stream.write(f"{text}\n")
            self.stream.flush()


def mode_of(progress: str, stream: TextIO) -> Mode:
    """How to show progress: `auto` is a bar on a terminal, lines elsewhere."""
    if progress == "auto":
        return "bar" if stream.isatty() else "lines"
    modes: dict[str, Mode] = {"bar": "bar", "lines": "lines", "none": "none"}
    return modes[progress]


def named(result: Any) -> dict[str, str]:
    """A result as names and short values."""
    if result is None:
        return {}
    items = result.items() if isinstance(result, dict) else [("result", result)]
    return {name: short(value) for name, value in items}


def short(value: Any) -> str:
    """A value as `show` tells it, too."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def next_words(
    record: RunRecord, ending: Ending, folder: Path | str | None, address: str = ""
) -> str:
    """The command that makes most sense after this end; after a debug run (no folder) the same without it.

    address: as `Report` has it.
    """
    if folder is None:
        return after_debugging(record, ending)
    tail = address or record.id.partition("-")[2] or record.id
    if (
        ending.exit_code == ExitCode.OK
        and not address
        and record.lineage
        and "fork" in record.lineage
    ):
        origin = record.lineage["fork"]["run"]
        return f"crown-exp compare {origin.partition('-')[2] or origin} {tail}"
    if ending.exit_code == ExitCode.OK:
        kept = [item for item in record.overrides if not item.startswith("seed=")]
        return f"python -m crown_exp -m {shlex.join([*kept, 'seed=1,2,3'])}"
    if ending.exit_code in STOPS or ending.exit_code == ExitCode.INFRASTRUCTURE:
        return f"crown-exp resume {tail}"
    if ending.exit_code == ExitCode.DIVERGED:
        return f"crown-exp debug {tail}@{ending.step + 1}"
    return f"crown-exp show {address or record.id}"


def after_debugging(record: RunRecord, ending: Ending) -> str:
    """The command in earnest if it went well, else once more."""
    typed = [item for item in record.overrides if not item.lstrip("+").startswith("debug=")]
    again = [] if ending.exit_code == ExitCode.OK else ["debug=true"]
    return f"python -m crown_exp {shlex.join([*typed, *again])}"
