"""Removing checkpoints of a run that nobody runs: first what would go, then that and nothing else.

As the retention of a run does it, whose module says what keeps a remover and a writer apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from crown_exp.checkpoints.base import GRACE, Keep, Progress
from crown_exp.checkpoints.checking import checked
from crown_exp.checkpoints.restore import Number
from crown_exp.checkpoints.retention import (
    Known,
    known_of,
    left_over,
    remove_manifests,
    remove_unless_written_again,
    superfluous,
)
from crown_exp.checkpoints.streaming import Meter
from crown_exp.errors import SettingsError, StoreError, Superseded
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore, Entry
from crown_exp.storage.runs import is_superseded
from crown_exp.storage.unfinished import Unfinished, abort_uploads, unfinished_uploads

LONG_GRACE = timedelta(days=1)
"""The age of a pack without a manifest, while an attempt holds the run, which removes younger ones itself."""


@dataclass(frozen=True)
class Plan:
    """What would go. checkpoints: oldest first. packs: what the store would be rid of. stays: newest first.

    attempt: the newest; if there is a newer one when it is carried out, nothing more goes. uploads: in parts,
    begun more than an hour before the plan and never ended; note: why they are not known, if they are not.
    """

    checkpoints: tuple[Known, ...]
    packs: tuple[Entry, ...]
    stays: tuple[Known, ...]
    attempt: int
    uploads: tuple[Unfinished, ...] = ()
    note: str = ""

    @property
    def bytes(self) -> int:
        """What is freed."""
        return sum(entry.size for entry in self.packs)

    @property
    def empty(self) -> bool:
        """Whether nothing would go."""
        return not (self.checkpoints or self.packs or self.uploads)


async def plan_prune(
    blobs: BlobStore,
    paths: RunPaths,
    keep: Keep,
    *,
    packs_only: bool = False,
    access: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What of a run's checkpoints need not be kept.

    keep: which stay; the newest that verifies always does, and is read for that if anything is to go.
    packs_only: a living attempt holds the run: only packs that no checkpoint names, and that are a day old.
    access: how a store in a bucket is reached; with it, uploads that were left behind are looked for.
    Raises Damaged if no checkpoint verifies (then none may go), NewerFormat, StoreError.
    """
    attempt = await newest_attempt(blobs, paths)
    listed = await blobs.list(paths.packs)
    known = await known_of(blobs, paths)
    left = await left_over(blobs, paths, listed, known, LONG_GRACE if packs_only else GRACE)
    gone: list[Known] = []
    if known and not packs_only:
        gone = await superfluous_of(blobs, paths, known, keep, progress)
    stay = {name for item in known if item not in gone for name in item.packs}
    freed = {name for item in gone for name in item.packs} - stay
    packs = [entry for entry in listed if entry.path.removeprefix(paths.packs) in freed]
    stays = sorted((item for item in known if item not in gone), key=number_of, reverse=True)
    plan = Plan(tuple(gone), (*packs, *left), tuple(stays), attempt)
    return plan if access is None or packs_only else await with_uploads(blobs, paths, plan, access)


async def with_uploads(
    blobs: BlobStore, paths: RunPaths, plan: Plan, access: Mapping[str, str]
) -> Plan:
    """The plan, with the uploads that were left behind, or why they are not known."""
    before = await blobs.now() - GRACE
    try:
        found = await unfinished_uploads(blobs.url, access, f"{paths.root}/", before)
    except (StoreError, SettingsError) as error:  # it takes a permission, or a package, of its own
        return replace(plan, note=f"unfinished uploads are not looked for: {error}")
    return replace(plan, uploads=tuple(found))


async def superfluous_of(
    blobs: BlobStore,
    paths: RunPaths,
    known: Sequence[Known],
    keep: Keep,
    progress: Progress | None,
) -> list[Known]:
    """Those that may go, the oldest first. The newest is read, and those before it until one verifies."""
    judged = {item.number: item for item in known}
    why = ""
    for item in sorted(known, key=number_of, reverse=True):
        if item.damaged:
            continue
        gone = superfluous(list(judged.values()), keep, item.number)
        if not (gone or why):
            return []
        verdict = await checked(blobs, paths, item.number, progress)
        if verdict.whole:
            return gone
        why = verdict.why
        judged[item.number] = replace(item, damaged=True)
    raise Damaged(
        f"run {paths.run_id}: none of its checkpoints verifies ({why}); nothing is removed"
    )


async def prune(
    blobs: BlobStore,
    paths: RunPaths,
    plan: Plan,
    progress: Progress | None = None,
    *,
    access: Mapping[str, str] | None = None,
) -> int:
    """Carry out a plan; the bytes that were freed, but for those of uploads. What was written anew stays.

    Raises Superseded if an attempt of the run has begun since; what went until then was in the plan.
    StoreError; then the rest can be planned again.
    """
    freed, meter = 0, Meter("pruning", plan.bytes, progress)
    await refuse_newer(blobs, paths, plan)
    await remove_manifests(blobs, paths, [item.number for item in plan.checkpoints])
    for entry in plan.packs:
        await refuse_newer(blobs, paths, plan)
        if await remove_unless_written_again(blobs, entry):
            freed += entry.size
        meter.add(entry.size)
    if plan.uploads and access is not None:
        newest = max(upload.begun for upload in plan.uploads)
        await abort_uploads(blobs.url, access, f"{paths.root}/", newest + timedelta(seconds=1))
    return freed


async def refuse_newer(blobs: BlobStore, paths: RunPaths, plan: Plan) -> None:
    """Raises Superseded if an attempt has begun since the plan was made."""
    if await is_superseded(blobs, paths.run_id, plan.attempt):
        raise Superseded(
            f"run {paths.run_id}: attempt {plan.attempt + 1} has begun meanwhile, and removes what it does not "
            "need; nothing more was removed here"
        )


async def newest_attempt(blobs: BlobStore, paths: RunPaths) -> int:
    """The number of the newest attempt; 0 if there was none."""
    listed = await blobs.list(paths.attempts)
    return max((paths.attempt_number(entry.path) or 0 for entry in listed), default=0)


def number_of(item: Known) -> Number:
    """In the order of these, newer ones are greater."""
    return item.number
