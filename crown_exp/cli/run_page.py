"""What `show` says of a run, section by section, as lines. Pure but for the clock it is handed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from crown_exp.cli.ages import age, number, plural, short_age, size, span, took
from crown_exp.cli.attempt_story import (
    attempt_story,
    attempt_took,
    ended_text,
    memory_text,
    numerics_text,
    steps_text,
)
from crown_exp.cli.letters import cut, labelled, plain
from crown_exp.cli.lineage import lineage_text
from crown_exp.cli.plot import Series, plot
from crown_exp.cli.save_trouble import save_trouble, since_epoch
from crown_exp.cli.screen import Screen
from crown_exp.cli.table import STATES, Cell, Column, Head, Text, painted, table
from crown_exp.identity import short
from crown_exp.outcome import ExitCode, State
from crown_exp.registry.values import flatten

if TYPE_CHECKING:
    from crown_exp.cli.told_job import ToldJob
    from crown_exp.registry.base import AttemptInfo, Curve, Details, RunInfo, Summary

LABEL = 11
MOST_VALUES = 60
MOST_ATTEMPTS = 8
MOST_RESULTS = 20
MOST_METRICS = 20
MOST_FILES = 10
MOST_EVENTS = 5
MOST_FORKS = 5
MOST_KEPT = 8
NOTE = 600
"""Characters of a note, or another text, that are shown."""

TOLD_ELSEWHERE = frozenset(
    {"artifact", "beat", "initialized", "memory", "resumed", "saved", "stopping"}
)
"""Events of which another section tells."""

OPEN = frozenset({State.PLANNED, State.QUEUED, State.RUNNING})
RESUMABLE = frozenset({State.PREEMPTED, State.LOST, State.STOPPED, State.CAPPED})
STOPPING = "stopping at the end of this turn"


@dataclass(frozen=True)
class RunPage:
    """A run and where it is shown.

    origins: what is told of where a value of the config comes from, by key; by_files: of files, too.
    curve: the one to draw. equal: ids of other runs with its signature. folder: as one types it. kept: the
    steps of its checkpoints that are there. job: the newest, of a run that was elsewhere.
    """

    details: Details
    now: datetime
    screen: Screen
    values: Mapping[str, str]
    origins: Mapping[str, str]
    by_files: bool = False
    curve: Curve | None = None
    equal: Sequence[str] = ()
    folder: str = ""
    kept: Sequence[int] = ()
    job: ToldJob | None = None

    @property
    def tail(self) -> str:
        """The part of the id that is typed."""
        return self.details.run.id.partition("-")[2] or self.details.run.id

    def lines(self) -> Iterator[str]:
        """All of it."""
        yield from self.head()
        for name, lines in (
            (self.config_title(), self.config()),
            ("attempts", self.attempts()),
            ("result", self.results()),
            ("metrics", self.metrics()),
            (self.curve.metric if self.curve else "", self.plotted()),
            ("files", self.files()),
            ("events", self.events()),
        ):
            yield from self.section(name, lines)
        yield f"next: {self.next_words()}"

    def section(self, name: str, lines: Iterator[str]) -> Iterator[str]:
        """A title and lines below it; nothing if there are none."""
        for at, line in enumerate(lines):
            if not at:
                yield self.title(name)
            yield line.rstrip()

    def title(self, text: str) -> str:
        """A line that stands out where there are colours."""
        return painted(cut(plain(text), self.screen.width), "bold", on=self.screen.colour)

    def table(
        self, headers: Sequence[Head], rows: Sequence[Sequence[Text]], more: str = ""
    ) -> Iterator[str]:
        """A table set in by two, and what it leaves out."""
        for line in table(headers, rows, width=self.screen.width - 2, colour=self.screen.colour):
            yield f"  {line}"
        if more:
            yield f"  {more}"

    # --- sections -------------------------------------------------------------------------------------

    def head(self) -> Iterator[str]:
        """Who, what and how it stands."""
        run, wide = self.details.run, self.screen.width
        said = STOPPING if run.stopping else run.state
        name = cut(plain(run.name), max(8, wide - len(run.id) - len(said) - 4))
        state = painted(
            said, STATES["stopped" if run.stopping else run.state], on=self.screen.colour
        )
        yield f"{self.title(run.id)}  {name}  {state}"
        for label, text in self.facts():
            yield from labelled(f"  {label:<{LABEL}}", cut_text(text), wide)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Labels, and what is said of each; empty where there is nothing to say."""
        run = self.details.run
        if error := error_of(self.details.attempts):
            yield "error", f"{error.get('type')}: {error.get('message', '').strip()}".rstrip(": ")
            yield "traceback", f"crown-exp logs {self.tail} --last 1"
        else:
            yield "why", self.why()
        yield "made", f"{age(run.created, self.now)} by {run.user}{self.duration()}"
        if run.sweep:
            yield (
                "sweep",
                f"run {run.sweep['number']} of {run.sweep['of'] or '?'}, {run.sweep['id']}",
            )
        yield "task", f"{run.task}, compute {run.compute}"
        yield "job", self.job.text(self.now) if self.job else ""
        yield "signature", f"{short(run.signature) or run.signature}, seed {run.seed}"
        if self.equal:
            yield "equal", f"{', '.join(self.equal)} (the same signature)"
        yield "code", code_text(run)
        yield "lineage", lineage_text(run.lineage, self.details.events)
        yield (
            "forks",
            ", ".join(f"{fork}@{at(step)}" for fork, step in self.details.forks[:MOST_FORKS]),
        )
        yield "saved", self.saved()
        if trouble := save_trouble(self.details.events):
            yield "not saved", trouble.text(self.now)
        if run.exact_until is not None:
            yield "exact", f"bit for bit up to step {run.exact_until}; numerics changed then"
        yield "typed", shlex.join(run.overrides)
        yield "tags", " ".join(run.tags)
        yield "note", run.note
        yield "folder", f"{self.folder} ({size(run.bytes)})"

    def saved(self) -> str:
        """What there is to go on from."""
        saves = self.details.saves
        if saves is None:
            return ""
        big = "" if saves.bytes is None else f", {size(saves.bytes)}"
        when = age(since_epoch(saves.time), self.now)
        steps = self.kept[-MOST_KEPT:]
        more = "…, " if len(self.kept) > len(steps) else ""
        there = f"; kept: {more}{', '.join(map(str, steps))}" if steps else ""
        return f"step {saves.step}{big}, {when}; {plural(saves.count, 'save')} in all{there}"

    def why(self) -> str:
        """Why it ended so, or will, where the state does not say it."""
        run = self.details.run
        if run.stopping:
            return run.stopping
        known = run.reason in (None, "", run.state, "completed") or run.state in OPEN
        return "" if known else f"{run.reason} (exit code {run.exit_code})"

    def duration(self) -> str:
        """How long it took, over all its attempts."""
        run = self.details.run
        if run.started is None:
            return ""
        seconds = max(0.0, ((run.ended or self.now) - run.started).total_seconds())
        steps = f", {plural(run.step, 'step')}" + (
            f" ({run.lost:,} done again)" if run.lost else ""
        )
        if run.ended is None:
            return f", going on for {span(seconds)}{steps}"
        return f", took {took(seconds)}{steps}"

    def config_title(self) -> str:
        """With how to have more said of origins, where that is so."""
        return "config" if self.by_files else "config (--origins: from which file)"

    def config(self) -> Iterator[str]:
        """What differs from the framework's defaults, with where it comes from."""
        if self.details.config is None:
            yield "  cannot be read"
            return
        shown = list(self.values.items())[:MOST_VALUES]
        headers: list[Head] = ["", "", Column("", whole=True)]
        rows: list[list[Text]] = [
            [key, value, Cell(self.origins.get(key, ""), "dim")] for key, value in shown
        ]
        yield from self.table(headers, rows, rest(len(self.values), len(shown), "--json"))

    def attempts(self) -> Iterator[str]:
        """Each process life: where, when, how long, on what, from which step to which, how it ended."""
        shown = self.details.attempts[-MOST_ATTEMPTS:]
        rows = [
            [
                str(it.attempt),
                it.host or "?",
                short_age(it.started, self.now) if it.started else "?",
                "?" if self.is_lost(it) else attempt_took(it, self.now),
                numerics_text(it.numerics),
                memory_text(self.details.events, it.attempt),
                steps_text(it, self.details.run),
                "lost" if self.is_lost(it) else ended_text(it),
            ]
            for it in shown
        ]
        headers = ["#", "host", "started", "took", "device", "memory", "steps", "ended"]
        left = len(self.details.attempts) - len(shown)
        yield from (
            self.table(headers, rows, f"and {left:,} earlier" if left else "") if rows else ()
        )
        for it in shown:
            yield from self.told_of(it)

    def is_lost(self, attempt: AttemptInfo) -> bool:
        """Whether an attempt ended without a word."""
        run = self.details.run
        if attempt.exit_code is not None:
            return False
        return attempt.attempt < run.attempt or run.state not in OPEN

    def told_of(self, attempt: AttemptInfo) -> Iterator[str]:
        """From where an attempt went on, what that cost, and why it ended, where a table cannot say it."""
        label = f"  attempt {attempt.attempt}  "
        for text in attempt_story(attempt, self.details.run):
            yield from labelled(label, cut_text(text), self.screen.width)
            label = " " * len(label)

    def results(self) -> Iterator[str]:
        """What the task returned."""
        result = self.details.run.result
        found = {} if result is None else flatten(result)
        rows = [
            [
                name,
                cut_text(number(it.num) if it.type == "float" and it.num is not None else it.text),
            ]
            for name, it in list(found.items())[:MOST_RESULTS]
        ]
        yield from self.table(["", ""], rows, rest(len(found), len(rows), "--json"))

    def metrics(self) -> Iterator[str]:
        """The last value of each, the least and the greatest with their steps."""
        found = self.details.summaries
        rows = [
            [name, number(it.last, 4), extreme(it.min, it.min_step), extreme(it.max, it.max_step), f"{it.n}"]
            for name, it in most_logged(found, MOST_METRICS)
        ]  # fmt: skip
        right = [Column(name, right=True) for name in ("last", "min @step", "max @step", "points")]
        more = rest(len(found), len(rows), "--json, or one by --metric NAME")
        yield from self.table(["", *right], rows, more) if rows else ()

    def plotted(self) -> Iterator[str]:
        """One curve."""
        if self.curve is None:
            return
        series = Series(self.curve.metric, self.curve.steps, self.curve.values)
        on = self.screen
        lines = plot([series], width=on.width - 2, unicode=on.unicode, colour=on.colour)
        for line in [*lines] or ["nothing but nan"]:
            yield f"  {line}"

    def files(self) -> Iterator[str]:
        """What the task stored."""
        found = self.details.files
        rows = [[it.path, size(it.bytes), it.kind] for it in found[:MOST_FILES]]
        headers: list[Head] = ["", Column("", right=True), ""]
        yield from self.table(headers, rows, rest(len(found), len(rows), "--json"))

    def events(self) -> Iterator[str]:
        """What happened last, of what no other section tells."""
        found = [it for it in self.details.events if it.kind not in TOLD_ELSEWHERE]
        rows = [
            [age(since_epoch(it.time), self.now), it.kind, cut_text(data_text(it.data))]
            for it in found[-MOST_EVENTS:]
        ]
        more = rest(len(found), len(rows), f"crown-exp logs {self.tail}")
        yield from self.table(["", "", ""], rows, more)

    def next_words(self) -> str:
        """The command that makes most sense after this page."""
        run = self.details.run
        state = run.state
        if state in OPEN:
            return f"crown-exp logs -f {self.tail}"
        if state in RESUMABLE:
            more = f" {cap_of(run.reason)}=…" if state == State.CAPPED else ""
            return f"crown-exp resume {self.tail}{more}"
        if run.exit_code == ExitCode.DIVERGED:
            return f"crown-exp debug {self.tail}@{run.step + 1}"
        if state == State.FAILED:
            return f"crown-exp logs {self.tail} --last 1"
        if self.equal:
            return f"crown-exp compare {self.tail} {self.equal[0].partition('-')[2]}"
        named = self.details.run.experiment
        return f"crown-exp runs experiment:{shlex.quote(named)}" if named else "crown-exp runs"


# --- words for values ---------------------------------------------------------------------------------


def rest(all_of: int, shown: int, where: str) -> str:
    """What a list leaves out, and how to see it."""
    return f"… and {all_of - shown:,} more: {where}" if all_of > shown else ""


def cut_text(text: str) -> str:
    """A text of any length, as much of it as a page has room for."""
    return text if len(text) <= NOTE else f"{text[:NOTE]}… ({len(text):,} characters: --json)"


def error_of(attempts: Sequence[AttemptInfo]) -> Mapping[str, str] | None:
    """The error that ended the newest attempt, if one did."""
    return cast("Mapping[str, str] | None", attempts[-1].error) if attempts else None


def code_text(run: RunInfo) -> str:
    """The commit, and whether files differ from it."""
    if run.code is None:
        return "no record"
    commit = run.code["commit"]
    if commit is None:
        return f"no commit, snapshot {(run.code['snapshot'] or '?')[:12]}"
    return f"{commit[:12]}{' with changes' if run.code['dirty'] else ''}"


def at(step: int | None) -> str:
    """A step, or a mark for one that is not known."""
    return "?" if step is None else f"{step}"


def extreme(value: float | None, step: int | None) -> str:
    """A value and the step at which it was."""
    return "nan" if value is None else f"{number(value, 4)} @{step}"


def data_text(data: Any) -> str:
    """What an event says, as `key value`."""
    if isinstance(data, Mapping):
        return "  ".join(f"{key} {number(value)}" for key, value in data.items())
    return "" if data is None else str(data)


def most_logged(summaries: Mapping[str, Summary], most: int) -> list[tuple[str, Summary]]:
    """The metrics by name; of too many, those with the most points."""
    found = list(summaries.items())
    return found if len(found) <= most else sorted(found, key=lambda it: (-it[1].n, it[0]))[:most]


def metric_to_show(summaries: Mapping[str, Summary]) -> str | None:
    """The metric of a run that is drawn: a loss if there is one, else the first with two points."""
    drawn = [name for name, it in summaries.items() if it.n > 1 and it.min is not None]
    losses = [name for name in drawn if "loss" in name.lower()]
    if "loss" in losses:
        return "loss"
    return min(losses, key=len) if losses else drawn[0] if drawn else None


def cap_of(reason: str | None) -> str:
    """The key to raise before a capped run can go on: the one that its end names."""
    named = re.match(r"(limits|budget)\.\w+", reason or "")
    return named[0] if named else "limits.run"
