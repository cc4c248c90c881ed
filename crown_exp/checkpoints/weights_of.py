"""The weights of a run: what its checkpoints hold of tracked modules, read pack by pack and verified."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from crown_exp.checkpoints.base import PARALLEL, Best
from crown_exp.checkpoints.format import Manifest, Pack
from crown_exp.checkpoints.layout import Placed
from crown_exp.checkpoints.listing import steps_of
from crown_exp.checkpoints.renaming import joined
from crown_exp.checkpoints.restore import Number, look, read_manifest, within
from crown_exp.checkpoints.retention import Known, best_of
from crown_exp.checkpoints.skeleton import put_together
from crown_exp.checkpoints.snapshot import over
from crown_exp.checkpoints.streaming import stream_pack, stream_packs
from crown_exp.errors import ConfigError
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.parallel import each

NEAR = 3
"""How many steps are named on either side of one that was not saved."""

AHEAD = 2
"""How many packs are read while the tensors of the one before are copied."""


@dataclass(frozen=True)
class Weights:
    """What a checkpoint holds of tracked modules. tensors: by their names, as `net.conv.weight`.

    sha256: of its manifest.
    """

    paths: RunPaths
    manifest: Manifest
    sha256: str
    tensors: Mapping[str, Placed]

    @property
    def spans(self) -> list[tuple[int, int, Pack]]:
        """Where each pack lies in the stream: its start, its end."""
        packs = self.manifest.packs
        ends = list(accumulate(pack.size for pack in packs))
        return [(end - pack.size, end, pack) for end, pack in zip(ends, packs, strict=True)]

    def packs_of(self, tensors: Iterable[Placed]) -> list[tuple[int, int, Pack]]:
        """Of those, the ones that hold something of these tensors."""
        wanted = sorted({(item.offset, item.offset + item.bytes) for item in tensors})
        return [
            (start, end, pack)
            for start, end, pack in self.spans
            if any(first < end and last > start for first, last in wanted)
        ]


async def weights_at(blobs: BlobStore, paths: RunPaths, number: Number) -> Weights:
    """The weights in a checkpoint; its manifest is read. Raises NotFound, Damaged, NewerFormat, StoreError."""
    manifest, parent = await read_manifest(blobs, paths, number)
    return Weights(paths, manifest, parent.sha256, module_tensors(manifest))


def module_tensors(manifest: Manifest) -> dict[str, Placed]:
    """The tensors in the states of tracked modules, by name; tied ones under each of theirs. Raises Damaged."""
    try:
        state = put_together(manifest.tree, manifest.tensors)
        return {
            joined(name, key): value
            for name in state["modules"]
            for key, value in state["tracked"][name].items()
            if isinstance(value, Placed)
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"checkpoint {manifest.name} has no tree that can be read: {error}"
        raise Damaged(what) from None


# --- which checkpoint -----------------------------------------------------------------------------------


async def candidates(
    blobs: BlobStore, paths: RunPaths, step: int | None, best: Best | None = None
) -> list[Number]:
    """The checkpoints that were asked for, those to try first before others.

    step: of them; None is any, the newest first. best: the one with the best of a metric. Raises ConfigError
    if there is none, NewerFormat, StoreError.
    """
    if best is not None:
        return [await best_one(blobs, paths, best)]
    usable = (await look(blobs, paths)).usable
    if not usable:
        what = "has no checkpoint, so there are no weights to begin with"
        raise ConfigError.of(paths.run_id, f"{what} (in {blobs.url})")
    found = [number for number in usable if step is None or number[1] == step]
    if step is not None and not found:
        what = no_such_step(step, [number[1] for number in usable])
        raise ConfigError.of(f"{paths.run_id}@{step}", what)
    return found


async def best_one(blobs: BlobStore, paths: RunPaths, best: Best) -> Number:
    """The checkpoint with the best of a metric. Raises ConfigError if none was saved with it."""
    listed = await steps_of(blobs, paths)
    known = [Known((item.attempt, item.step), metrics=item.metrics) for item in listed]
    found = best_of(known, best)
    if not found:
        steps = sorted({item.step for item in listed})
        there = f"there are {_some(steps)}" if steps else "it has no checkpoint at all"
        what = f"no checkpoint was saved with a {best.metric}; {there}"
        raise ConfigError.of(f"{paths.run_id}@best", what)
    return found.pop()


def no_such_step(step: int, steps: Sequence[int]) -> str:
    """Which steps there are instead of one that was not saved."""
    below = sorted({one for one in steps if one < step})[-NEAR:]
    above = sorted({one for one in steps if one > step})[:NEAR]
    more = len(set(steps)) - len(below) - len(above)
    rest = f" and {more} more" if more else ""
    return f"no checkpoint at step {step}; there are {', '.join(map(str, [*below, *above]))}{rest}"


def _some(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - NEAR} more" if len(steps) > NEAR else ""
    return f"{', '.join(map(str, steps[-NEAR:]))}{more}"


# --- their bytes ----------------------------------------------------------------------------------------


async def verify(blobs: BlobStore, weights: Weights, *, every_byte: bool) -> None:
    """See that the packs are there, by their sizes or by reading every byte. Raises Damaged, StoreError."""
    packs = {pack.sha256: pack for _, _, pack in weights.packs_of(weights.tensors.values())}
    if every_byte:
        await stream_packs(blobs, weights.paths, list(packs.values()))
        return

    async def check(pack: Pack) -> None:
        path = weights.paths.pack(pack.sha256)
        try:
            size = (await blobs.stat(path)).size
        except NotFound:
            raise Damaged(f"{path} is gone") from None
        if size != pack.size:
            raise Damaged(f"{path} has {size} bytes, not {pack.size}")

    await each(check, packs.values(), at_once=PARALLEL)


def read_tensors(
    portal: Portal, blobs: BlobStore, weights: Weights, names: Collection[str]
) -> Iterator[tuple[str, Any]]:
    """Name and tensor of those asked for, each on the CPU and good until the next; every pack is verified.

    In memory are the packs that are being read and one tensor. Raises Damaged, StoreError.
    """
    by_place: dict[Placed, list[str]] = {}
    for name in names:
        by_place.setdefault(weights.tensors[name], []).append(name)
    open_ones = deque(sorted(filter(has_bytes, by_place), key=lambda item: item.offset))
    halves: dict[Placed, bytearray] = {}
    for start, end, data in packs_in_turn(portal, blobs, weights, weights.packs_of(by_place)):
        while open_ones and open_ones[0].offset < end:
            item = open_ones[0]
            held = halves.setdefault(item, bytearray(item.bytes))
            first, last = max(item.offset, start), min(item.offset + item.bytes, end)
            held[first - item.offset : last - item.offset] = data[first - start : last - start]
            if item.offset + item.bytes > end:
                break
            open_ones.popleft()
            yield from ((name, tensor_of(item, held)) for name in by_place[item])
            del halves[item]
    for item in by_place:
        if not has_bytes(item):  # it lies in no pack
            yield from ((name, tensor_of(item, bytearray())) for name in by_place[item])


def has_bytes(item: Placed) -> bool:
    """Whether a tensor has an element."""
    return item.bytes > 0


def packs_in_turn(
    portal: Portal, blobs: BlobStore, weights: Weights, packs: Sequence[tuple[int, int, Pack]]
) -> Iterator[tuple[int, int, memoryview]]:
    """Start, end and bytes of packs in their order, a few read ahead. Raises as `read_tensors`."""
    coming: deque[Future[memoryview]] = deque()
    waiting = deque(packs)
    try:
        for start, end, _ in packs:
            while waiting and len(coming) <= AHEAD:
                later = waiting.popleft()[2]
                coming.append(portal.start(whole, blobs, weights.paths, later))
            yield start, end, coming.popleft().result()
    finally:
        for future in coming:
            future.cancel()


async def whole(blobs: BlobStore, paths: RunPaths, pack: Pack) -> memoryview:
    """The bytes of a pack, verified. Raises Damaged, StoreError."""
    data = memoryview(bytearray(pack.size))
    await stream_pack(blobs, paths.pack(pack.sha256), pack, within(data))
    return data


def tensor_of(item: Placed, data: bytearray) -> Any:
    """The tensor whose bytes these are; it lives on them."""
    import torch

    stream = torch.frombuffer(data, dtype=torch.uint8) if item.bytes else None
    return over(stream, replace(item, offset=0))
