"""The table at the end of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TextIO

from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.outcome import STATE_OF_EXIT, STOPS, ExitCode, State

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 80
ROOM = 34
"""Columns for results; number, id, name and state have the rest."""

COLORS = {State.COMPLETED: "green", State.FAILED: "red"}


def show_summary(
    invocation: Invocation, typed: Sequence[str], stream: TextIO | None = None
) -> None:
    """Write the runs of a sweep as a table, and what to type next; `typed` is the command's overrides."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream or sys.stderr, width=WIDTH, highlight=False, soft_wrap=False)
    console.print(table(invocation.ended))
    for number, run in enumerate(invocation.ended, 1):
        if run.error:
            console.print(Text(f"run {number}: {run.error}"), soft_wrap=True)
    console.print(Text(f"next    {next_words(invocation, typed)}"), soft_wrap=True)


def table(ended: Sequence[Ended]) -> Table:
    """Number, id, name, state and results of each run, 80 columns wide at most."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = result_names(ended)
    found = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    found.add_column("#", justify="right", no_wrap=True)
    found.add_column("run", no_wrap=True)
    found.add_column("name", overflow="fold", ratio=1)
    found.add_column("state", no_wrap=True)
    for name in names:
        found.add_column(name, justify="right", overflow="fold")
    for number, run in enumerate(ended, 1):
        state = state_of(run)
        values = results(run)
        found.add_row(
            str(number), run.run or "-", Text(run.name), Text(state, style=COLORS.get(state, "yellow")),
            *(values.get(name, "") for name in names),
        )  # fmt: skip
    return found


def state_of(run: Ended) -> State:
    """What became of a run; one that never began its task has failed, one that was taken over goes on."""
    if run.state is not None:
        return run.state
    if run.exit_code == ExitCode.SUPERSEDED:
        return State.RUNNING
    try:
        return STATE_OF_EXIT.get(ExitCode(run.exit_code), State.FAILED)
    except ValueError:
        return State.FAILED


def results(run: Ended) -> dict[str, str]:
    """The numbers a run returned, by name, six digits of each."""
    found: Mapping[str, Any] = (
        run.result if isinstance(run.result, Mapping) else {"result": run.result}
    )
    return {
        str(name): f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in found.items()
        if isinstance(value, int | float)
    }


def result_names(ended: Sequence[Ended]) -> list[str]:
    """The names of the results, the first of each run before any second, as many as have room."""
    shown = [results(run) for run in ended]
    ranked = (name for rank in zip_longest(*shown) for name in rank if name is not None)
    found: list[str] = []
    room = ROOM
    for name in dict.fromkeys(ranked):
        room -= 1 + max(len(name), *(len(run.get(name, "")) for run in shown))
        if room < 0 and found:
            break
        found.append(name)
    return found


def next_words(invocation: Invocation, typed: Sequence[str]) -> str:
    """The command that makes most sense after this sweep."""
    program = "python -m crown_exp"
    if invocation.stopped:
        done = sum(run.exit_code == ExitCode.OK for run in invocation.ended)
        of = f" of {invocation.planned}" if invocation.planned else ""
        return f"stopped with {done}{of} runs completed; again: {program} -m {shell(typed)}"
    failed = next((run for run in invocation.ended if run.exit_code not in (0, *STOPS)), None)
    if failed:
        return f"{program} {shell(failed.overrides)}   # the first that failed, alone"
    if any(text.lstrip("+").startswith("seed=") for text in typed):
        return f"{program} {shell(invocation.ended[-1].overrides)}   # the last one again, alone"
    return f"{program} -m {shell([*typed, 'seed=1,2,3'])}"


def shell(overrides: Sequence[str]) -> str:
    """Overrides as a shell takes them."""
    import shlex

    return shlex.join(overrides)
