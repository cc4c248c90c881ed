"""Which checkpoints go, and removing them: manifests first, then the packs that no other names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from crown_exp.checkpoints.base import PARALLEL, Best, Keep
from crown_exp.checkpoints.restore import Number, look, read_manifest
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage.base import BlobStore, NotFound
from crown_exp.storage.parallel import each
from crown_exp.storage.runs import is_superseded


@dataclass(frozen=True)
class Known:
    """What retention has to know of a checkpoint. readable: its manifest; then packs are all that it names."""

    number: Number
    damaged: bool = False
    readable: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    packs: frozenset[str] = frozenset()


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


class Retention:
    """Removes the checkpoints of a run that need not be kept, for the attempt that holds the run."""

    def __init__(self, blobs: BlobStore, paths: RunPaths, attempt: int, keep: Keep) -> None:
        self.blobs, self.paths, self.attempt, self.keep = blobs, paths, attempt, keep
        self.seen: dict[Number, Known] = {}
        self.swept = False

    async def retain(self, verified: Number) -> frozenset[str]:
        """After `verified` was committed: remove what is not needed; the packs that were removed.

        The first time also packs that no manifest names: saves that were killed left them. Raises StoreError;
        then what is left goes the next time.
        """
        known = await self.look()
        if known is None:
            return frozenset()
        gone = superfluous(known, self.keep, verified)
        stay = {name for item in known if item not in gone for name in item.packs}
        packs = {name for item in gone for name in item.packs} - stay
        if not self.swept and all(item.readable for item in known):
            packs |= await self.packs() - stay
        if gone or packs:
            if await is_superseded(self.blobs, self.paths.run_id, self.attempt):
                return frozenset()
            await self.remove(gone, packs)
        self.swept = True
        return frozenset(packs)

    async def look(self) -> list[Known] | None:
        """All checkpoints that are there; None if one is of a later format, whose packs cannot be told."""
        present = await look(self.blobs, self.paths)
        for number in present.manifests - self.seen.keys():
            try:
                manifest, _ = await read_manifest(self.blobs, self.paths, number)
            except Damaged:
                self.seen[number] = Known(number, damaged=True, readable=False)
            except NewerFormat:
                return None
            except NotFound:
                continue
            else:
                names = frozenset(pack.sha256 for pack in manifest.packs)
                damaged = number in present.damaged
                self.seen[number] = Known(number, damaged, True, manifest.metrics, names)
        return [item for number, item in self.seen.items() if number in present.manifests]

    async def packs(self) -> set[str]:
        """The names of all packs that are there."""
        listed = await self.blobs.list(self.paths.packs)
        return {entry.path.removeprefix(self.paths.packs) for entry in listed}

    async def remove(self, gone: Iterable[Known], packs: Iterable[str]) -> None:
        """Manifests, oldest first, before any pack: at every moment what has a manifest is whole."""
        for item in gone:
            await self.blobs.delete(self.paths.checkpoint(*item.number))
            await self.blobs.delete(self.paths.damaged(*item.number))
        await each(self.blobs.delete, map(self.paths.pack, packs), at_once=PARALLEL)
