"""`crown-exp compare A B…`: runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crown_exp.cli.run_json import run_json
from crown_exp.cli.screen import screen, write_json, write_lines
from crown_exp.errors import ConfigError, CrownError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crown_exp.cli.comparison_page import CodeChange
    from crown_exp.cli.refreshed import RefreshedIndex
    from crown_exp.registry.base import Comparison, Curve

MOST_CURVES = 5
"""How many curves one plot has."""


@click.command(name="compare")
@click.argument("runs", nargs=-1, metavar="RUN RUN...")
@click.option("--metric", metavar="NAME", help="draw this metric (default: the loss)")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(runs: tuple[str, ...], metric: str | None, as_json: bool) -> None:
    """Show two runs or more beside each other: what differs in config and code, results, metrics, a curve.

    RUN is an id or its beginning, whole or after the dash. Code is compared with that of the first.
    """
    from crown_exp.cli.comparison_page import ComparisonPage
    from crown_exp.cli.refreshed import refreshed_index

    with refreshed_index() as index:
        ids = [index.find(run) for run in runs]
        now, on = index.clock.now(), screen()
        found = index.compare(ids)
        changes = code_changes(index, found)
        curves = curves_of(index, found, metric, 2 * on.width)
        if as_json:
            write_json(as_object(index, found, changes))
            return
        imported = imported_alike(index, found) if changes else None
    write_lines(ComparisonPage(found, now, on, changes, imported, curves).lines())


def code_changes(index: RefreshedIndex, found: Comparison) -> list[CodeChange]:
    """What differs in the code of each run from that of the first; nothing for those with the same."""
    from crown_exp.cli.comparison_page import CodeChange
    from crown_exp.compute.difference import difference, read_snapshot

    first, *others = found.runs
    others = [run for run in others if run.code and first.code and run.code != first.code]
    base = index.call(read_snapshot, index.blobs, first.id) if others else None
    changes = []
    for run in others:
        code = index.call(read_snapshot, index.blobs, run.id)
        if base is None or code is None:
            what = "is not in their folders"
            changes.append(CodeChange(run.id, None, what))
            continue
        try:
            root = index.project.root if index.project else Path.cwd()
            changes.append(CodeChange(run.id, difference(root, base, code)))
        except CrownError as error:
            changes.append(CodeChange(run.id, None, str(error)))
    return changes


def imported_alike(index: RefreshedIndex, found: Comparison) -> bool | None:
    """Whether the newest attempts imported the same project files; None if one tells nothing of them."""
    hashes = set()
    for run in found.runs:
        attempts = index.get(run.id).attempts
        hashes.add(attempts[-1].code_hash if attempts else None)
    return None if None in hashes else len(hashes) == 1


def curves_of(
    index: RefreshedIndex, found: Comparison, metric: str | None, at_most: int
) -> list[Curve]:
    """A metric of the first runs that have it. Raises ConfigError if none has the one that is asked for."""
    from crown_exp.cli.run_page import metric_to_show
    from crown_exp.config.nearest import did_you_mean

    if metric is not None and metric not in found.summaries:
        hint = did_you_mean(metric, found.summaries) or "they have none"
        raise ConfigError.of(metric, f"none of the runs has a metric of this name; {hint}")
    shared = {
        name: next(it for it in every if it is not None)
        for name, every in found.summaries.items()
        if sum(it is not None for it in every) > 1
    }
    drawn = metric or metric_to_show(shared)
    if drawn is None:
        return []
    pairs = zip(found.runs, found.summaries[drawn], strict=True)
    having = [run.id for run, summary in pairs if summary is not None][:MOST_CURVES]
    return [index.call(index.registry.curve, it, drawn, at_most=at_most) for it in having]


def as_object(
    index: RefreshedIndex, found: Comparison, changes: Sequence[CodeChange]
) -> dict[str, Any]:
    """A comparison: every list has an entry for each run, null where it has none."""
    configs = index.call(index.registry.configs, [run.id for run in found.runs])
    return {
        "runs": [run_json(run, configs.get(run.id)) for run in found.runs],
        "config": found.config,
        "results": found.results,
        "metrics": found.summaries,
        "same_code": found.same_code,
        "code": changes,
    }
