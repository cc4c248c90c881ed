"""Runs as a notebook shows them: text for `repr`, HTML with every text of the user's escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crown_exp.config.letters import plain
from crown_exp.config.places import display
from crown_exp.registry.base import RunInfo

ROWS = 20
"""Runs that a list shows."""
LONGEST = 60
"""Characters of a value."""


def line(run: RunInfo) -> str:
    """`<run r261124-k7f3q2 digits_cnn: completed, step 500, accuracy=0.98>`."""
    values = [f"{cut(name)}={text}" for name, text in results(run.result).items()]
    parts = [str(run.state), f"step {run.step}", *values[:3], *(f"#{cut(it)}" for it in run.tags)]
    return f"<run {run.id} {cut(run.name)}: {', '.join(parts)}>"


def lines(runs: Sequence[RunInfo]) -> str:
    """A line a run, twenty at the most."""
    more = [f"... and {len(runs) - ROWS:,} more"] if len(runs) > ROWS else []
    return "\n".join([counted(runs), *map(line, runs[:ROWS]), *more])


def page(run: RunInfo, folder: Path | str) -> str:
    """One run as a small table."""
    rows = {
        "run": f"<b>{text(run.name)}</b> <code>{text(run.id)}</code>",
        "state": text(f"{run.state}, step {run.step:,}"),
        "experiment": text(run.experiment or ""),
        "created": moment(run),
        "result": "<br>".join(f"{text(k)} = {text(v)}" for k, v in results(run.result).items()),
        "reason": text((run.exit_code and run.reason) or ""),
        "tags": text(", ".join(run.tags)),
        "note": text(run.note),
        "folder": f"<code>{text(display(folder) if isinstance(folder, Path) else folder)}</code>",
    }
    body = (row([f"<th style='text-align:left'>{k}</th>", cell(v)]) for k, v in rows.items() if v)
    return f"<table>{''.join(body)}</table>"


def table(runs: Sequence[RunInfo], columns: Sequence[str]) -> str:
    """A row a run, twenty at the most, with the values that were asked for and the results."""
    seen = [results(run.result) for run in runs[:ROWS]]
    names = [name for name in dict.fromkeys(n for r in seen for n in r) if name not in columns]
    heads = ["id", "name", "state", "created", "step", "tags", *columns, *names]
    body = [row(f"<th>{text(head)}</th>" for head in heads)]
    for run, result in zip(runs[:ROWS], seen, strict=True):
        asked = [valued(run.values.get(column)) for column in columns]
        told = [run.name, str(run.state), moment(run), f"{run.step:,}", ", ".join(run.tags)]
        values = [*told, *asked, *(result.get(name, "") for name in names)]
        body.append(row([cell(f"<code>{text(run.id)}</code>"), *(cell(text(it)) for it in values)]))
    more = f"<p>... and {len(runs) - ROWS:,} more</p>" if len(runs) > ROWS else ""
    return (
        f"<p>{counted(runs)}</p><table>{''.join(body)}</table>{more}" if runs else "<p>no runs</p>"
    )


def counted(runs: Sequence[RunInfo]) -> str:
    """`no runs`, `1 run`, `1,200 runs`."""
    return f"{len(runs):,} run{'' if len(runs) == 1 else 's'}" if runs else "no runs"


def results(result: Any) -> dict[str, str]:
    """What a task returned, as names and short values."""
    if result is None:
        return {}
    named = result if isinstance(result, Mapping) else {"result": result}
    return {str(name): valued(value) for name, value in named.items()}


def valued(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return ""
    return cut(f"{value:.6g}" if isinstance(value, float) else str(value))


def cut(words: str) -> str:
    """A text of at most sixty characters, in one line that a terminal does not obey."""
    words = plain(" ".join(words.split()))
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def moment(run: RunInfo) -> str:
    """When a run was recorded."""
    return f"{run.created:%Y-%m-%d %H:%M} UTC"


def text(words: str) -> str:
    """A text of anybody's as HTML."""
    return escape(words.encode(errors="replace").decode())


def cell(html: str) -> str:
    """A cell of a row."""
    return f"<td style='text-align:left'>{html}</td>"


def row(cells: Iterable[str]) -> str:
    """Cells beside each other."""
    return f"<tr>{''.join(cells)}</tr>"
