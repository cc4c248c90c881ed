"""`crown-exp show RUN`: all that one look at a run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crown_exp.cli.run_json import run_json
from crown_exp.cli.save_trouble import save_trouble
from crown_exp.cli.screen import complain, screen, write_json, write_lines
from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crown_exp.cli.refreshed import RefreshedIndex
    from crown_exp.cli.told_job import ToldJob
    from crown_exp.registry.base import Curve, Details, RunInfo

MOST_EQUAL = 5


@click.command(name="show")
@click.argument("run", default="latest", metavar="[RUN]")
@click.option("--metric", metavar="NAME", help="draw this metric (default: the loss)")
@click.option(
    "--origins", is_flag=True, help="where each value of the config comes from: files too"
)
@click.option("--json", "as_json", is_flag=True, help="for machines; with --metric all its points")
def command(run: str, metric: str | None, origins: bool, as_json: bool) -> None:
    """Show one run: its config, attempts, results, metrics and files.

    RUN is an id or its beginning, whole or after the dash, or where its folder is, in whatever store. Of the
    config, the framework's defaults are left out. --origins composes the run's overrides anew, which takes a
    second, and names the file and line of each value that they still give.
    """
    from crown_exp.cli.origins import deciding_values
    from crown_exp.cli.refreshed import index_for
    from crown_exp.launch.address import address

    with index_for(run) as index:
        run_id, now = index.find(address(run).run), index.clock.now()
        details = index.get(run_id)
        values = deciding_values(details.config) if details.config else {}
        told = origins_of(values, details.run.overrides, by_files=origins)
        if as_json:
            curve, job = points_of(index, run_id, metric), told_job(index, details.run)
            write_json(as_object(details, told, curve, job))
            return
        from crown_exp.cli.run_page import RunPage, metric_to_show

        on = screen()
        drawn = metric or metric_to_show(details.summaries)
        page = RunPage(
            details, now, on, values, told, by_files=origins,
            curve=points_of(index, run_id, drawn, at_most=2 * on.width),
            equal=equal_ids(index, details.run), folder=folder_of(index, details.run),
            kept=kept_steps(index, details.run), job=told_job(index, details.run),
        )  # fmt: skip
    write_lines(page.lines())


def origins_of(
    values: Mapping[str, str], overrides: Sequence[str], *, by_files: bool
) -> dict[str, str]:
    """What can be told of each value; if the files do not compose any more, that is said."""
    from crown_exp.cli.origins import from_files, from_overrides

    if by_files:
        try:
            return from_files(values, overrides)
        except ConfigError as error:
            complain(f"the run's overrides do not compose any more: {error}")
    return from_overrides(values, overrides)


def points_of(
    index: RefreshedIndex, run_id: str, metric: str | None, at_most: int | None = None
) -> Curve | None:
    """A curve of the run. Raises ConfigError if it has no metric of this name."""
    if metric is None:
        return None
    return index.call(index.registry.curve, run_id, metric, at_most=at_most)


def equal_ids(index: RefreshedIndex, run: RunInfo) -> list[str]:
    """Other runs with the same signature, the newest first."""
    from crown_exp.registry import Filter

    same = Filter(signature=run.signature)
    page = index.page(same, limit=MOST_EQUAL + 1)
    return [other.id for other in page.runs if other.id != run.id][:MOST_EQUAL]


def folder_of(index: RefreshedIndex, run: RunInfo) -> str:
    """Where the run's folder is, as one types it."""
    from crown_exp.config.places import display

    local = index.blobs.local_path(f"runs/{run.id}") if run.store == index.blobs.url else None
    return display(local) if local else f"{run.store}/runs/{run.id}"


def kept_steps(index: RefreshedIndex, run: RunInfo) -> list[int]:
    """The steps of the run's checkpoints that are there, in order; none of a run of another store."""
    from crown_exp.checkpoints.listing import usable_steps
    from crown_exp.folder import RunPaths

    if run.store != index.blobs.url:
        return []
    return sorted(index.call(usable_steps, index.blobs, RunPaths(run.id)))


def told_job(index: RefreshedIndex, run: RunInfo) -> ToldJob | None:
    """The run's newest job as it is recorded; None if it has none, or its store is another."""
    from crown_exp.cli.told_job import ToldJob
    from crown_exp.errors import CrownError
    from crown_exp.storage.runs import read_jobs
    from crown_exp.storage.spending import read_run_spending

    if run.store != index.blobs.url:
        return None
    try:
        jobs = index.call(read_jobs, index.blobs, run.id)
    except CrownError as error:  # damaged: the rest of the run can be shown
        complain(str(error))
        return None
    if not jobs:
        return None
    job = max(jobs, key=lambda it: it.number)
    if not any(it.rates for it in jobs):
        return ToldJob(job)
    spent = index.call(read_run_spending, index.blobs, run.id).records
    return ToldJob(job, sum(it.usd for it in spent))


def as_object(
    details: Details, origins: Mapping[str, str], curve: Curve | None, job: ToldJob | None = None
) -> dict[str, Any]:
    """A run as `runs --json` has it, and all else: docs/record.md tells the fields."""
    return run_json(details.run, details.config) | {
        "origins": origins,
        "attempts": details.attempts,
        "metrics": details.summaries,
        "files": details.files,
        "events": details.events,
        "saves": details.saves,
        "unsaved": save_trouble(details.events),
        "forks": [{"id": run, "step": step} for run, step in details.forks],
        "curve": curve,
        "job": job.to_json() if job else None,
    }
