"""`crown-exp logs RUN`: what a run logged, in order; `-f` goes on with what it logs now."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from crown_exp.cli.letters import columns, plain
from crown_exp.cli.screen import complain, jsonable, screen
from crown_exp.cli.table import painted
from crown_exp.errors import ConfigError
from crown_exp.folder.records import Damaged
from crown_exp.outcome import STATE_OF_EXIT, STOPS, ExitCode

if TYPE_CHECKING:
    from crown_exp.launch.log import LogReader
    from crown_exp.launch.log_items import Item, Pick
    from crown_exp.launch.remote.executors import Executors
    from crown_exp.launch.remote.watching.following import Following
    from crown_exp.outcome import State

POLL_SECONDS = 0.5
JOB_LOOKS = 10
"""Polls from one look whether the run has a job to the next."""
TIME = 9
LONGEST_SECONDS = 1e9
NOTHING: tuple[Any, ...] = (None, "", [], {})
"""Values of an event that tell nothing: no checkpoint, none damaged."""


@click.command(name="logs")
@click.argument("run", default="latest", metavar="[RUN]")
@click.option("-f", "--follow", is_flag=True, help="go on with what it logs, until it has ended")
@click.option("--metric", metavar="NAME,…", help="only points of these metrics, without others")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="only the last N entries")
@click.option("--json", "as_json", is_flag=True, help="for machines: an object a line")
def command(run: str, follow: bool, metric: str | None, last: int | None, as_json: bool) -> int:
    """Show what RUN logged: points, events, how its attempts began and ended, printed text.

    RUN is an id or its beginning, whole or after the dash, or where its folder is; without one, the run that
    was made last. Times are since the attempt began. Of a run elsewhere that has not begun: what its job does,
    and what the setting up of its machine has printed.
    """
    from pathlib import Path

    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import load_settings
    from crown_exp.launch.address import address
    from crown_exp.launch.log import LogReader
    from crown_exp.launch.remote.executors import executors_of
    from crown_exp.registry.base import LATEST
    from crown_exp.storage import Portal, open_blobs
    from crown_exp.storage.runs import find_run

    if run == LATEST:
        with refreshed_index() as index:
            run = index.find(run)
    asked, settings = address(run), load_settings(find_project(Path.cwd()))
    blobs = open_blobs(asked.store or settings.storage.root, settings.storage.access)
    with Portal() as portal, executors_of(settings) as executors:
        reader = LogReader(portal, blobs, portal.call(find_run, blobs, asked.run))
        Show(reader, names_of(metric), as_json, executors).all(last, follow)
    return 0


def names_of(metric: str | None) -> list[str]:
    """The metrics that are asked for; none: all. Raises ConfigError if a name is missing."""
    if metric is None:
        return []
    names = [name.strip() for name in metric.split(",")]
    if not all(names):
        raise ConfigError.of(f"--metric {metric}", "expected names like loss,accuracy")
    return names


class Show:
    """Prints a log as it is read."""

    def __init__(
        self, reader: LogReader, metrics: Sequence[str], as_json: bool, executors: Executors
    ) -> None:
        from crown_exp.launch.log_items import only

        self.reader, self.metrics, self.as_json = reader, metrics, as_json
        self.executors = executors
        self.job: Following | None = None
        self.seen: set[str] = set()
        self.pick: Pick = only(metrics, self.seen)
        self.said = self.shown = self.looks = 0
        self.screen = screen()

    def all(self, last: int | None, follow: bool) -> None:
        """What there is, and what comes if it is to be followed."""
        if last is not None:
            self.print(self.reader.last(last, self.pick))
        if follow:
            self.follow()
            return
        if last is None:
            self.print(self.reader.new(self.pick))
        if not self.shown or self.goes_on():
            self.tell_of_job(decide=False)
        if not last or self.shown < last:
            self.check_metrics()
        self.next("")

    def follow(self) -> None:
        """Print what comes until the run has ended, and say how."""
        waiting = ""
        while True:
            ending = self.ending()
            self.print(self.reader.new(self.pick))
            if ending is not None:
                if not self.shown:  # what became of its job is all there is to tell
                    self.tell_of_job(decide=False, now=True)
                self.next(f"{self.reader.run_id} {ending}; ")
                return
            self.tell_of_job()
            if not self.shown and not waiting:
                waiting = f"{self.reader.run_id} has not begun; waiting for it, Ctrl-C to leave"
                complain(waiting)
            time.sleep(POLL_SECONDS)

    def tell_of_job(self, *, decide: bool = True, now: bool = False) -> None:
        """What is new of the run's job, if it has one, as long as the run has nothing to tell itself.

        decide: as in `Following.new`. now: even if it was looked at a moment ago.
        """
        self.looks = 1 if now else self.looks + 1
        if self.job is None:
            often = self.looks % JOB_LOOKS != 1
            if often or not self.reader.portal.call(self.reader.blobs.list, self.reader.paths.jobs):
                return
            from crown_exp.launch.remote.watching.following import Following, Place

            place = Place(self.reader.portal, self.reader.blobs, self.executors)
            self.job = Following(place, self.reader.run_id)
        if now:
            self.job.due = 0.0
        said, printed = self.job.new(decide=decide)
        for line in said:
            complain(line)
        for line in () if self.as_json else printed:
            for part in folded([plain(f"| {line}")], "", self.screen.width):
                click.echo(part)

    def goes_on(self) -> bool:
        """Whether the run has not ended, as far as its records can be read; what cannot be was told."""
        try:
            return self.ending() is None
        except Damaged:
            return False

    def ending(self) -> State | None:
        """How the run has ended, if it has. Raises ConfigError if somebody deleted it."""
        try:
            return self.reader.ending()
        except ConfigError:
            what = "was deleted while it was followed"
            raise ConfigError.of(self.reader.run_id, what) from None

    def print(self, items: Iterable[Item]) -> None:
        """Each item, then what could not be read."""
        for item in items:
            self.shown += 1
            started = self.reader.started(item.attempt) if not self.as_json else None
            lines = [as_line(item)] if self.as_json else told(item, started, self.screen.width)
            sys.stdout.write("".join(f"{self.paint(line, item)}\n" for line in lines))
        sys.stdout.flush()
        for problem in self.reader.problems[self.said :]:
            complain(plain(problem))
        self.said = len(self.reader.problems)

    def paint(self, line: str, item: Item) -> str:
        """A line in the colour of what it tells of, on a terminal."""
        failed = item.kind == "ended" and item.data["exit_code"] not in (0, *STOPS)
        colour = "" if item.kind in ("point", "text") else "red" if failed else "cyan"
        return painted(line, colour, on=self.screen.colour and not self.as_json)

    def check_metrics(self) -> None:
        """Raises ConfigError for a metric that the run has not logged."""
        from crown_exp.config.nearest import did_you_mean

        for name in self.metrics:
            if name not in self.seen:
                hint = did_you_mean(name, self.seen) or "it has none yet"
                what = f"{self.reader.run_id} has no metric of this name; {hint}"
                raise ConfigError.of(name, what)

    def next(self, said: str) -> None:
        """The last line, for people."""
        if not self.as_json:
            click.echo(f"{said}next: crown-exp show {self.reader.run_id}")


def as_line(item: Item) -> str:
    """An item as one line of JSON."""
    from crown_exp.launch.log_items import to_json

    tree = to_json(item)
    try:
        return json.dumps(tree, allow_nan=False)
    except (
        TypeError,
        ValueError,
    ):  # nan, say: seldom, so that it is not looked for in a million points
        return json.dumps(jsonable(tree), allow_nan=False)


# --- as people read it --------------------------------------------------------------------------------


def told(item: Item, started: float | None, width: int) -> list[str]:
    """The lines of an item, no wider than that. started: when its attempt began."""
    if item.kind == "text":
        rank = f"rank {item.data['rank']} " if item.data["rank"] else ""
        return folded([plain(f"{rank}| {item.data['line']}")], "", width)
    since = "" if item.time is None or started is None else elapsed(item.time - started)
    if item.kind == "point":
        return folded([f"step {item.step}", *pairs(item.data)], since, width)
    if item.kind == "began":
        return folded([began(item)], "", width)
    if item.kind == "ended":
        return [*folded([ended(item)], since, width), *traceback_of(item, width)]
    said = {name: value for name, value in item.data.items() if value not in NOTHING}
    return folded([plain(item.kind), *pairs(said)], since, width)


def pairs(data: Mapping[str, Any]) -> Iterator[str]:
    """Each name with its value."""
    for name, value in data.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        yield plain(f"{name} {shown}")


def began(item: Item) -> str:
    """Which attempt began where, on which device."""
    where = [f"on {item.data['host']}", f"pid {item.data['pid']}"]
    if job := item.data["job"]:
        where.append(f"job {job}")
    if device := (item.data["numerics"] or {}).get("device"):
        where.append(str(device))
    return plain(f"attempt {item.attempt} began {', '.join(where)}")


def ended(item: Item) -> str:
    """How an attempt ended."""
    code = item.data["exit_code"]
    known = set(ExitCode)
    state = STATE_OF_EXIT.get(ExitCode(code), "superseded") if code in known else f"exit {code}"
    steps = f"{item.step} step{'' if item.step == 1 else 's'}"
    reason = str(item.data["reason"] or "")
    why = f": {reason}" if reason and reason != state else ""
    return plain(f"attempt {item.attempt} {state} after {steps}{why}")


def traceback_of(item: Item, width: int) -> list[str]:
    """The traceback of an end, if it was an error."""
    error = item.data["error"]
    lines = str(error["traceback"]).splitlines() if error else []
    return [part for line in lines for part in folded([plain(f"| {line}")], "", width)]


def elapsed(seconds: float) -> str:
    """`0:05` after the attempt began; before it, where a clock was set back, `-0:05`; `?` for nonsense."""
    from crown_exp.tracking.transfer import duration

    if not abs(seconds) < LONGEST_SECONDS:
        return "?"
    return f"-{duration(-seconds)}" if seconds <= -0.5 else duration(abs(seconds))


def folded(parts: Sequence[str], label: str, width: int) -> list[str]:
    """A label and parts beside it, in as many lines as they need; nothing is cut off."""
    head = f"{label:>{TIME}}  "
    room, line = max(width - len(head), 20), ""
    lines: list[str] = []
    if (whole := "  ".join(parts)).isascii() and len(whole) <= room:
        return [f"{head}{whole}".rstrip()]
    for part in (piece for whole in parts for piece in pieces(whole, room)):
        joined = f"{line}  {part}" if line else part
        if columns(joined) <= room:
            line = joined
            continue
        lines.append(line)
        line = part
    lines.append(line)
    return [f"{head if not n else ' ' * len(head)}{line}".rstrip() for n, line in enumerate(lines)]


def pieces(text: str, room: int) -> Iterator[str]:
    """A text cut so that each piece has room."""
    at = 0
    while columns(text[at:]) > room:
        size = room if text.isascii() else room // 2
        yield text[at : at + size]
        at += size
    yield text[at:]
