"""`crown-exp runs [TERMS…]`: what ran, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from crown_exp.cli.ages import number, short_age
from crown_exp.cli.run_json import numbers_of, run_json
from crown_exp.cli.screen import Screen, screen, write_json, write_lines
from crown_exp.cli.table import STATES, Cell, Column, table
from crown_exp.errors import ConfigError
from crown_exp.registry.base import MOST

if TYPE_CHECKING:
    from datetime import datetime

    from crown_exp.config.project import Project
    from crown_exp.registry import Filter
    from crown_exp.registry.base import Page, RunInfo

OWN_VALUES = 2
"""How many values of the results are shown where none are asked for."""

DIGITS = 4


@click.command(name="runs")
@click.argument("terms", nargs=-1, metavar="[TERM]...")
@click.option("--experiment", metavar="NAME", help="only runs of this experiment")
@click.option("--state", metavar="STATE,…", help="only runs in one of these states")
@click.option("--tag", multiple=True, metavar="TAG", help="only runs with this tag; again for more")
@click.option("--age", metavar="7d", help="only runs made since then (s, m, h, d)")
@click.option("--mine", is_flag=True, help="only your own")
@click.option("--sort", default="-created", metavar="BY", show_default=True,
              help="created, started, ended, name, experiment, user, step, bytes, a value; - down")  # fmt: skip
@click.option("--limit", default=50, type=click.IntRange(0, MOST), show_default=True,
              help="how many at most; 0: all")  # fmt: skip
@click.option("--columns", metavar="lr,min(loss)", help="values to show: results, config, metrics")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(
    terms: tuple[str, ...],
    experiment: str | None,
    state: str | None,
    tag: tuple[str, ...],
    age: str | None,
    mine: bool,
    sort: str,
    limit: int,
    columns: str | None,
    as_json: bool,
) -> None:
    """Show what ran, the newest first.

    \b
    TERM is one of           fits runs
      tag:paper              with that tag; also experiment, state, user,
                             sweep, name, compute, signature
      "age<7d"               made in the last seven days; also >
      "lr<0.01"              by a value: a result, a key of the config, the
      "min(loss)<=0.2"       last value of a metric, or its min or max
      key~text               whose value contains a text
    The shell takes < and > for itself outside of quotes.
    """
    from crown_exp.cli.refreshed import refreshed_index

    wanted = asked(terms, experiment=experiment, state=state, tags=tag, age=age)
    shown = [name.strip() for name in (columns or "").split(",") if name.strip()]
    with refreshed_index() as index:
        if mine:
            wanted = replace(wanted, user=index.settings.user)
        now = index.clock.now()
        page = index.page(wanted, sort=sort, limit=limit or None, columns=shown)
        if as_json:
            configs = index.call(index.registry.configs, [run.id for run in page.runs])
            runs = [run_json(it, configs.get(it.id)) | {"values": it.values} for it in page.runs]
            write_json({"runs": runs, "more": page.more, "total": page.total, "left": index.left})
            return
        narrowed = wanted != type(wanted)()
        if not page.runs:
            write_lines(nothing(index.project, narrowed))
            return
    write_lines(listed(page, shown, now, screen()))


def asked(
    terms: Sequence[str],
    *,
    experiment: str | None = None,
    state: str | None = None,
    tags: Sequence[str] = (),
    age: str | None = None,
) -> Filter:
    """The filter that terms and options say together. Raises ConfigError for what is no term."""
    from crown_exp.registry import Filter, parse_filter
    from crown_exp.registry.terms import parse_age

    base = Filter(experiment=experiment, tags=tuple(tags))
    if state is not None:
        base = parse_filter(f'state:"{state}"', base)
    if age is not None:
        if age[:1] in ("<", ">"):
            raise ConfigError.of(f"--age {age}", 'expected --age 7d, or the term "age>7d"')
        base = replace(base, newer=parse_age(age, f"--age {age}".rstrip()))
    return parse_filter(" ".join(map(quoted, terms)), base)


def quoted(term: str) -> str:
    """An argument of the shell as a term: the quotes around `name:two words` were the shell's."""
    field, colon, value = term.partition(":")
    bare = colon and " " in value.strip() and not set(value) & set('"<>=~:')
    return f'{field}:"{value}"' if bare and field.isalpha() else term


def listed(page: Page, shown: Sequence[str], now: datetime, on: Screen) -> Iterator[str]:
    """A page of runs as a table, how many there are, and what to type next."""
    runs = page.runs
    own = [] if shown else shared_values(runs)
    tagged = any(run.tags for run in runs)
    headers: list[Column | str] = [
        Column("id", whole=True), Column("name"), Column("state", whole=True),
        Column("age", right=True, whole=True), Column("step", right=True, whole=True),
        *(Column(name, right=True) for name in shown or own), *(["tags"] if tagged else []),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = []
    for run in runs:
        results = numbers_of(run.result) if own else {}
        values = [run.values[name] for name in shown] or [results.get(name) for name in own]
        rows.append([
            Cell(run.id, "bold"), run.name, Cell(run.state, STATES[run.state]),
            short_age(run.created, now), f"{run.step}",
            *(value_text(value) for value in values), *([" ".join(run.tags)] if tagged else []),
        ])  # fmt: skip
    yield from table(headers, rows, width=on.width, colour=on.colour)
    if page.more:
        of = f" of {page.total:,}" if page.total is not None else ", there are more"
        yield f"{len(runs)}{of}: --limit {2 * len(runs)} shows more, --limit 0 all"
    yield f"next: {next_words(runs)}"


def value_text(value: float | str | None) -> str:
    """A value in a cell; nothing for none. A whole number stays whole."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
        return f"{int(value)}"
    return "" if value is None else number(value, DIGITS)


def shared_values(runs: Sequence[RunInfo]) -> list[str]:
    """The first numbers of the results that most of the runs with a result have."""
    found = [numbers_of(run.result) for run in runs if run.result is not None]
    counted = Counter(name for values in found for name in values)
    return [name for name, n in counted.items() if 2 * n > len(found)][:OWN_VALUES]


def next_words(runs: Sequence[RunInfo]) -> str:
    """The command that makes most sense after this list."""
    tails = [run.id.partition("-")[2] or run.id for run in runs]
    if len(tails) == 1:
        return f"crown-exp show {tails[0]}"
    return f"crown-exp show {tails[0]}, or crown-exp compare {tails[0]} {tails[1]}"


def nothing(project: Project | None, narrowed: bool) -> Iterator[str]:
    """What to say where no run is listed."""
    if narrowed:
        yield "no run fits"
        yield "next: crown-exp runs"
        return
    yield "no runs yet"
    if project is None:
        yield "next: crown-exp init <directory>"
        return
    files = sorted(path.stem for conf in project.conf for path in conf.glob("experiment/*.yaml"))
    yield f"next: python -m crown_exp +experiment={files[0] if files else '<name>'}"
