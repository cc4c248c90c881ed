"""Which checkpoints go, and removing them: manifests first, then the packs that no other names.

A pack without a manifest may be of a save that goes on, and a store deletes whatever lies under a name. So:

- The attempt that holds the run saves and removes in turn, never both at once. So what it wrote or verified
  itself, and what manifests named that it removes, goes at once: nobody else could name it again.
- All other packs go once they are older than GRACE by the store's clock. They are listed before the manifests,
  so a manifest that came meanwhile is seen; and each is looked at once more before it goes.
- A writer relies on a pack only if it has just written it, if the newest manifest names it, or if it is younger
  than half of GRACE; else it writes it again. After a save of more than half of GRACE, by a slow line or while
  the machine slept, it looks again at each before it commits.
- A newer attempt ends the removing of an older one, and that of `checkpoints prune`.

What is left: a writer that is not known to the remover writes the very bytes of an old, killed save again, all
between the last look at a pack and the request that removes it. The next save finds that, and writes the pack
again; a restore finds it, too. Only the store's times are compared: no other clock decides what goes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from crown_exp.checkpoints.base import GRACE, PARALLEL, Best, Keep
from crown_exp.checkpoints.commit import Packs
from crown_exp.checkpoints.restore import Number, is_gone, look, read_listed
from crown_exp.clock import Clock
from crown_exp.folder.paths import RunPaths, checkpoint_name
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage.base import BlobStore, Entry, NotFound
from crown_exp.storage.parallel import each
from crown_exp.storage.runs import is_superseded


@dataclass(frozen=True)
class Known:
    """What retention has to know of a checkpoint. readable: its manifest; then packs are all that it names.

    bytes: of its tensors. created: None if it cannot be read.
    """

    number: Number
    damaged: bool = False
    readable: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    packs: frozenset[str] = frozenset()
    bytes: int = 0
    created: datetime | None = None

    @property
    def attempt(self) -> int:
        """The attempt that committed it."""
        return self.number[0]

    @property
    def step(self) -> int:
        """The steps after which it was saved."""
        return self.number[1]

    @property
    def name(self) -> str:
        """What it is called."""
        return checkpoint_name(*self.number)


def superfluous(known: Collection[Known], keep: Keep, verified: Number) -> list[Known]:
    """Those that need not be kept, oldest first. verified: the newest that surely can be restored; it stays.

    Damaged ones count for nothing, and go when as many as are kept are newer.
    """
    ordered = sorted(known, key=lambda item: item.number, reverse=True)
    whole = [item for item in ordered if not item.damaged]
    newest = whole[: max(keep.last, 1)]
    stays = {verified, *(item.number for item in newest), *of_steps(whole, keep.every)}
    stays |= best_of(whole, keep.best)
    if len(newest) < keep.last:
        stays |= {item.number for item in known if item.damaged}
    else:
        stays |= {item.number for item in known if item.damaged and item.number > newest[-1].number}
    return [item for item in reversed(ordered) if item.number not in stays]


def of_steps(whole: Iterable[Known], every: int | None) -> set[Number]:
    """Those at multiples of `every` steps: of each step the newest attempt's. whole: newest first."""
    found: dict[int, Number] = {}
    for item in whole:
        if every and item.number[1] % every == 0:
            found.setdefault(item.number[1], item.number)
    return set(found.values())


def best_of(whole: Iterable[Known], best: Best | None) -> set[Number]:
    """The best by its metric, the oldest of equals; none if it was never logged. whole: newest first."""
    if best is None:
        return set()
    sign = 1.0 if best.greatest else -1.0
    scored = [
        (sign * item.metrics[best.metric], item.number)
        for item in whole
        if not math.isnan(item.metrics.get(best.metric, math.nan))
    ]
    top = max(scored, key=lambda pair: (pair[0], tuple(-part for part in pair[1])), default=None)
    return {top[1]} if top else set()


async def known_of(
    blobs: BlobStore, paths: RunPaths, seen: dict[Number, Known] | None = None
) -> list[Known]:
    """All checkpoints that are there. seen: those known before, to which the others are added.

    Raises NewerFormat: what such a one names cannot be told. StoreError, too, if one is listed and not found.
    """
    seen = {} if seen is None else seen
    present = await look(blobs, paths)
    manifests = set(present.manifests)
    # No listing has a checksum. One that came garbled must not make packs of a checkpoint look unnamed.
    if not seen:
        manifests |= (await look(blobs, paths)).manifests
    for number in seen.keys() - manifests:
        if await is_gone(blobs, paths.checkpoint(*number)):
            del seen[number]
        else:
            manifests.add(number)
    for number in manifests - seen.keys():
        try:
            found = await read_listed(blobs, paths, number)
        except Damaged:
            seen[number] = Known(number, damaged=True, readable=False)
            continue
        if found is not None:
            manifest, _ = found
            names = frozenset(pack.sha256 for pack in manifest.packs)
            damaged = number in present.damaged
            seen[number] = Known(
                number,
                damaged,
                True,
                manifest.metrics,
                names,
                manifest.layout.bytes,
                manifest.created,
            )
    return [item for number, item in seen.items() if number in manifests]


async def left_over(
    blobs: BlobStore,
    paths: RunPaths,
    listed: Sequence[Entry],
    known: Sequence[Known],
    age: timedelta,
) -> list[Entry]:
    """The packs that no manifest names, older than that by the store's clock.

    listed: the packs that there were before the manifests were looked at. None if a manifest cannot be read.
    """
    named = {name for item in known for name in item.packs}
    unnamed = [entry for entry in listed if entry.path.removeprefix(paths.packs) not in named]
    if not unnamed or not all(item.readable for item in known):
        return []
    now = await blobs.now()
    return [entry for entry in unnamed if now - entry.modified > age]


async def remove_unless_written_again(blobs: BlobStore, entry: Entry) -> bool:
    """Remove a blob if it is the one that was listed; whether it was."""
    try:
        if await blobs.stat(entry.path) != entry:
            return False
    except NotFound:
        return False
    await blobs.delete(entry.path)
    return True


class Retention:
    """Removes the checkpoints of a run that need not be kept, for the attempt that holds the run."""

    def __init__(
        self, blobs: BlobStore, paths: RunPaths, attempt: int, keep: Keep, clock: Clock
    ) -> None:
        self.blobs, self.paths, self.attempt, self.keep = blobs, paths, attempt, keep
        self.clock = clock
        self.seen: dict[Number, Known] = {}
        self.swept_at: float | None = None

    async def retain(self, verified: Number, writer: Packs) -> None:
        """After `verified` was committed: remove what is not needed.

        The first time, and then once in GRACE, also packs that no manifest names. writer: what it wrote for
        saves that failed goes at once; it knows no more of what goes. Raises StoreError; the rest goes later.
        """
        begun, listed = self.clock.monotonic(), []
        if sweeps := self.swept_at is None or begun - self.swept_at >= GRACE.total_seconds():
            listed = await self.blobs.list(self.paths.packs)
        try:
            known = await known_of(self.blobs, self.paths, self.seen)
        except NewerFormat:
            return
        gone = superfluous(known, self.keep, verified)
        stay = {name for item in known if item not in gone for name in item.packs} | writer.named
        packs = (writer.known | {name for item in gone for name in item.packs}) - stay
        left = await left_over(self.blobs, self.paths, listed, known, GRACE)
        writer.known -= packs | {entry.path.removeprefix(self.paths.packs) for entry in left}
        if (packs or left) and await self.is_superseded():
            return
        await remove_manifests(self.blobs, self.paths, [item.number for item in gone])
        for item in gone:
            del self.seen[item.number]
        if packs and await self.is_superseded():
            return
        await each(self.blobs.delete, map(self.paths.pack, packs), at_once=PARALLEL)
        for entry in left:
            await remove_unless_written_again(self.blobs, entry)
        if sweeps:
            self.swept_at = begun

    async def is_superseded(self) -> bool:
        """Whether a later attempt has begun."""
        return await is_superseded(self.blobs, self.paths.run_id, self.attempt)


async def remove_manifests(blobs: BlobStore, paths: RunPaths, numbers: Iterable[Number]) -> None:
    """Remove manifests, and their markers, in this order: at every moment what has a manifest is whole."""
    for number in numbers:
        await blobs.delete(paths.checkpoint(*number))
        await blobs.delete(paths.damaged(*number))
