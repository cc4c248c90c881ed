"""`crown-exp checkpoints list`: the checkpoints of a run as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from crown_exp.checkpoints.checking import numbers_of
from crown_exp.checkpoints.format import Manifest
from crown_exp.checkpoints.restore import Number, look, read_manifest
from crown_exp.checkpoints.retention import Known, best_of
from crown_exp.cli.ages import number, plural, short_age, size
from crown_exp.cli.screen import screen, write_json, write_lines
from crown_exp.cli.table import Cell, Column, Head, Text, table
from crown_exp.folder.paths import RunPaths, checkpoint_name
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage.base import BlobStore, NotFound
from crown_exp.storage.parallel import each

if TYPE_CHECKING:
    from crown_exp.cli.checkpoint_run import Asked

AT_ONCE = 16
HEADERS: tuple[Head, ...] = (
    Column("step", right=True), Column("attempt", right=True), Column("saved", right=True),
    Column("size", right=True), Column("new", right=True), Column("after", right=True), "metrics", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to tell of a checkpoint.

    bytes: of its tensors. new: of packs that no older one has. parent: its name, and if it is another run's,
    that run's id before it. damaged: what is known to be wrong with it; "" for nothing. best: of all by the
    metric that the run keeps the best by.
    """

    step: int
    attempt: int
    name: str
    created: datetime | None = None
    bytes: int = 0
    new: int = 0
    parent: str | None = None
    metrics: Mapping[str, float] | None = None
    damaged: str = ""
    best: bool = False


def show(asked: Asked, as_json: bool) -> None:
    """Print them. Raises StoreError if the store cannot be read."""
    told = told_of(asked)
    if as_json:
        write_json({"id": asked.paths.run_id, "store": asked.blobs.url, "checkpoints": told})
        return
    if not told:
        click.echo(f"{asked.paths.run_id} has no checkpoint")
        click.echo(f"next: crown-exp show {asked.typed}")
        return
    page, now = screen(), asked.session.clock.now()
    rows = [row(it, now) for it in told]
    write_lines(table(HEADERS, rows, width=page.width, colour=page.colour))
    damaged = sum(bool(it.damaged) for it in told)
    amiss = f", {damaged:,} damaged" if damaged else ""
    stored = size(sum(it.new for it in told))
    click.echo(f"{plural(len(told), 'checkpoint')}{amiss}, {stored} stored")
    click.echo(f"next: crown-exp checkpoints verify {asked.typed}")


def told_of(asked: Asked) -> list[Told]:
    """All checkpoints of a run, newest first."""
    manifests, marked = asked.call(manifests_of, asked.blobs, asked.paths)
    known = [
        Known(found, metrics=it.metrics)
        for found, it in manifests.items()
        if isinstance(it, Manifest) and found not in marked
    ]
    best = best_of(sorted(known, key=lambda it: it.number, reverse=True), asked.keep.best)
    seen: set[str] = set()
    told = []
    for found in sorted(manifests):
        it = told_one(found, manifests[found], seen)
        if found in marked and not it.damaged:
            it = replace(it, damaged="was found damaged when it was read")
        told.append(replace(it, best=found in best))
    return told[::-1]


def told_one(found: Number, manifest: Manifest | str, seen: set[str]) -> Told:
    """One of them. seen: packs of older ones, to which its own are added."""
    attempt, step = found
    if isinstance(manifest, str):
        return Told(step, attempt, checkpoint_name(*found), damaged=manifest)
    new = {pack.sha256: pack.size for pack in manifest.packs if pack.sha256 not in seen}
    seen.update(new)
    return Told(
        step, attempt, manifest.name, manifest.created, manifest.layout.bytes, sum(new.values()),
        manifest.parent.name if manifest.parent else None, manifest.metrics,
    )  # fmt: skip


async def manifests_of(
    blobs: BlobStore, paths: RunPaths
) -> tuple[dict[Number, Manifest | str], frozenset[Number]]:
    """Every manifest, or why it cannot be read; and which checkpoints are marked as damaged."""
    found: dict[Number, Manifest | str] = {}

    async def read(one: Number) -> None:
        try:
            found[one], _ = await read_manifest(blobs, paths, one)
        except (Damaged, NewerFormat) as error:
            found[one] = str(error)
        except NotFound:
            pass  # it was removed meanwhile

    await each(read, await numbers_of(blobs, paths), at_once=AT_ONCE)
    return found, (await look(blobs, paths)).damaged


def row(it: Told, now: datetime) -> list[Text]:
    """A checkpoint as a line of the table."""
    note: Text = Cell("damaged", "red") if it.damaged else Cell("best", "green") if it.best else ""
    if it.created is None:
        return [f"{it.step}", f"{it.attempt}", "", "", "", "", "", note]
    metrics = "  ".join(f"{name} {number(value, 4)}" for name, value in (it.metrics or {}).items())
    return [
        f"{it.step}", f"{it.attempt}", short_age(it.created, now), size(it.bytes), size(it.new),
        after(it.parent), metrics, note,
    ]  # fmt: skip


def after(parent: str | None) -> str:
    """The step of a parent, and the run's tail if it is another's: `3`, `k7f3q2@3`."""
    if parent is None:
        return ""
    run, _, name = parent.rpartition("/")
    step = name.rpartition("-")[2].lstrip("0") or "0"
    return f"{run.partition('-')[2] or run}@{step}" if run else step
