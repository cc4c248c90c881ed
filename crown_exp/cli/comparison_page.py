"""What `compare` says of runs, section by section, as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from crown_exp.cli.ages import number, plural, short_age
from crown_exp.cli.letters import columns, cut, labelled, plain
from crown_exp.cli.plot import Series, legend, plot
from crown_exp.cli.run_page import code_text, rest
from crown_exp.cli.screen import Screen
from crown_exp.cli.table import GAP, STATES, Cell, Column, Head, Text, painted, table

if TYPE_CHECKING:
    from crown_exp.compute.difference import Changed, Difference
    from crown_exp.registry.base import Comparison, Curve, RunInfo, Summary

MOST_COLUMNS = 3
"""Up to so many runs stand beside each other; of more, each has a row."""

MOST_KEYS = 40
MOST_METRICS = 8
MOST_FILES = 12
WIDEST = 24
"""Columns that a value has where each run is a row."""

Values = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True)
class CodeChange:
    """What differs in a run's code from that of the first; problem: why that cannot be told."""

    run: str
    difference: Difference | None
    problem: str = ""


@dataclass(frozen=True)
class ComparisonPage:
    """Runs, and where they are shown. imported_alike: whether the code that they imported is the same."""

    found: Comparison
    now: datetime
    screen: Screen
    changes: Sequence[CodeChange]
    imported_alike: bool | None
    curves: Sequence[Curve]

    def lines(self) -> Iterator[str]:
        """All of it."""
        yield from self.head()
        yield self.title("config")
        yield from self.beside(self.found.config) if self.found.config else ["  the same"]
        yield self.title("code")
        yield from self.code()
        if self.found.results:
            yield self.title("results")
            yield from self.beside(
                {k: [short(v) for v in vs] for k, vs in self.found.results.items()}
            )
        if self.found.summaries:
            yield self.title("metrics")
            yield from self.metrics()
        yield from self.plotted()
        yield f"next: crown-exp show {tail(self.found.runs[0].id)}"

    def title(self, text: str) -> str:
        """A line that stands out where there are colours."""
        return painted(cut(plain(text), self.screen.width), "bold", on=self.screen.colour)

    def head(self) -> Iterator[str]:
        """The runs."""
        rows: list[list[Text]] = [
            [
                Cell(run.id, "bold"), run.name, run.experiment or "-", Cell(run.state, STATES[run.state]),
                str(run.step), short_age(run.created, self.now),
            ]
            for run in self.found.runs
        ]  # fmt: skip
        headers: list[Head] = [
            Column("run", whole=True), "name", "experiment", Column("state", whole=True),
            Column("step", right=True), Column("age", right=True),
        ]  # fmt: skip
        yield from table(headers, rows, width=self.screen.width, colour=self.screen.colour)
        if len({run.experiment for run in self.found.runs}) > 1:
            yield "these are runs of different experiments"
        elif len({run.signature for run in self.found.runs}) == 1:
            yield "they have the same signature: nothing that decides the result differs but code"

    def beside(self, values: Values, most: int = MOST_KEYS) -> Iterator[str]:
        """Names with a value for each run."""
        shown = dict(list(values.items())[:most])
        if len(self.found.runs) <= MOST_COLUMNS:
            headers: list[Head] = ["", *(tail(run.id) for run in self.found.runs)]
            rows = [[name, *(value or "-" for value in row)] for name, row in shown.items()]
            yield from self.table(headers, rows)
        else:
            for names in blocks(shown, self.screen.width - 2 - len("xxxxxx")):
                yield from self.by_row({name: shown[name] for name in names})
        if more := rest(len(values), len(shown), "--json"):
            yield f"  {more}"

    def by_row(self, values: Values) -> Iterator[str]:
        """A row for each run, a column for each name."""
        headers: list[Head] = [Column("", whole=True), *map(leaf, values)]
        rows = [
            [tail(run.id), *(cut(plain(row[at] or "-"), WIDEST) for row in values.values())]
            for at, run in enumerate(self.found.runs)
        ]
        yield from self.table(headers, rows)

    def table(self, headers: Sequence[Head], rows: Sequence[Sequence[Text]]) -> Iterator[str]:
        """A table set in by two."""
        for line in table(headers, rows, width=self.screen.width - 2, colour=self.screen.colour):
            yield f"  {line}"

    def code(self) -> Iterator[str]:
        """Whether it is the same, and what differs from the first run's."""
        runs = self.found.runs
        if self.found.same_code:
            yield f"  the same: {code_text(runs[0])}"
            return
        if silent := [tail(run.id) for run in runs if run.code is None]:
            yield from self.folded(f"no record of the code of {', '.join(silent)}")
        by_id = {run.id: run for run in runs}
        for change in self.changes:
            run = by_id[change.run]
            pair = f"{tail(runs[0].id)} to {tail(run.id)}, {commits(runs[0], run)}"
            if change.difference is None:
                yield from self.folded(f"{pair}: {change.problem}")
                continue
            yield from self.folded(f"{pair}: {counted(change.difference)}")
            yield from self.files(change.difference.files)
        if self.changes and self.imported_alike is not None:
            alike = "the same" if self.imported_alike else "differ"
            yield f"  the project files that they imported {'are ' if alike == 'the same' else ''}{alike}"

    def folded(self, text: str) -> Iterator[str]:
        """A sentence set in by two."""
        return labelled("  ", text, self.screen.width)

    def files(self, files: Sequence[Changed]) -> Iterator[str]:
        """The files with the most lines that differ."""
        most = sorted(files, key=lambda it: -((it.added or 0) + (it.removed or 0)))[:MOST_FILES]
        rows = [[it.path, line_counts(it)] for it in most]
        for line in table(["", ""], rows, width=self.screen.width - 4):
            yield f"    {line}"
        if more := rest(len(files), len(most), "--json"):
            yield f"    {more}"

    def metrics(self) -> Iterator[str]:
        """The last value of each metric, and the extremes of those with several."""
        found = list(self.found.summaries.items())
        if len(found) > MOST_METRICS:  # those with the most points, in as many runs as can be
            found.sort(key=lambda it: -sum(one.n for one in it[1] if one))
        shown: dict[str, list[str | None]] = {}
        for name, every in found[:MOST_METRICS]:
            shown[f"{name} last"] = [None if it is None else number(it.last, 4) for it in every]
            if any(it is not None and it.n > 1 for it in every):
                shown[f"{name} min"] = [extreme(it, "min") for it in every]
                shown[f"{name} max"] = [extreme(it, "max") for it in every]
        yield from self.beside(shown)
        if more := rest(len(found), min(len(found), MOST_METRICS), "--json"):
            yield f"  {more}"

    def plotted(self) -> Iterator[str]:
        """One curve of each run, in one frame: told apart by colour, or by letter where there is none."""
        if not self.curves:
            return
        on = self.screen
        dotted = on.unicode and (on.colour or len(self.curves) == 1)
        series = [Series(tail(curve.run), curve.steps, curve.values) for curve in self.curves]
        drawn = list(plot(series, width=on.width - 2, unicode=dotted, colour=on.colour, height=8))
        if drawn:
            names = [one.name for one in series]
            yield self.title(self.curves[0].metric)
            yield f"  {legend(names, unicode=dotted, colour=on.colour)}"
            yield from (f"  {line}".rstrip() for line in drawn)


def tail(run_id: str) -> str:
    """The part of an id that is typed."""
    return run_id.partition("-")[2] or run_id


def leaf(name: str) -> str:
    """What heads a column: the part after the last dot."""
    return name.rpartition(".")[2] or name


def short(value: str | None) -> str | None:
    """A number in six digits; any other text as it is."""
    try:
        return value if value is None or value.lstrip("-").isdecimal() else number(float(value))
    except ValueError:
        return value


def blocks(values: Values, width: int) -> Iterator[list[str]]:
    """The names, as many together as have room beside each other."""
    found: list[str] = []
    room = width
    for name, row in values.items():
        needed = max(columns(plain(leaf(name))), *(columns(plain(it or "-")) for it in row))
        needed = min(needed, WIDEST) + len(GAP)
        if found and needed > room:
            yield found
            found, room = [], width
        found.append(name)
        room -= needed
    if found:
        yield found


def commits(old: RunInfo, new: RunInfo) -> str:
    """The commits of two runs."""
    one, other = code_text(old), code_text(new)
    return f"both {one}" if one == other else f"{one} to {other}"


def counted(difference: Difference) -> str:
    """How much differs."""
    files, added = difference.files, sum(it.added or 0 for it in difference.files)
    if not files:
        return "no file differs" if difference.whole else "their changes are the same"
    if not difference.whole:
        return f"{plural(len(files), 'file')} with other changes (the commits are not both here)"
    removed = sum(it.removed or 0 for it in files)
    return f"{plural(len(files), 'file')}, +{added:,} -{removed:,} lines"


def line_counts(file: Changed) -> str:
    """Lines that came and went in a file."""
    return "" if file.added is None else f"+{file.added} -{file.removed}"


def extreme(summary: Summary | None, which: str) -> str | None:
    """The least or the greatest value of a metric."""
    value = getattr(summary, which) if summary is not None else None
    return None if value is None else number(value, 4)
