"""From bytes in memory to a checkpoint in the store: packs, and then the manifest, which is the commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate

from crown_exp.checkpoints.base import GRACE, PARALLEL
from crown_exp.checkpoints.format import Manifest, Pack, Parent, decode, encode
from crown_exp.checkpoints.streaming import Meter
from crown_exp.errors import Superseded
from crown_exp.folder.paths import RunPaths
from crown_exp.storage.base import AlreadyExists, BlobStore, NotFound
from crown_exp.storage.parallel import each, in_thread
from crown_exp.storage.runs import is_superseded

HASHED_AT_ONCE = 2
"""Fewer than are written at once: so the first are on their way while the others are hashed."""


@dataclass
class Packs:
    """What a writer knows of the packs that are there.

    known: those that it wrote or verified. named: those of the newest checkpoint, which stay.
    """

    known: set[str] = field(default_factory=set)
    named: frozenset[str] = frozenset()


async def write_packs(
    blobs: BlobStore,
    paths: RunPaths,
    stream: memoryview,
    sizes: Sequence[int],
    packs: Packs,
    meter: Meter | None = None,
) -> tuple[tuple[Pack, ...], int]:
    """Hash the packs of a stream and write those that are missing; also how many bytes were written.

    Those that are known are not written again if they are still there and stay; those written now are known
    then. Any other that lies there is written over: who knows what it holds.
    """
    from anyio import CapacityLimiter

    found: dict[int, Pack] = {}
    begun: set[str] = set()
    written = 0
    hashing = CapacityLimiter(HASHED_AT_ONCE)

    async def write(part: tuple[int, memoryview]) -> None:
        nonlocal written
        number, data = part
        async with hashing:
            pack = Pack(await digest(data), len(data))
        found[number] = pack
        if pack.sha256 not in begun:
            begun.add(pack.sha256)
            if not (pack.sha256 in packs.known and await stays(blobs, paths, pack, packs.named)):
                packs.known.discard(pack.sha256)
                await blobs.put(paths.pack(pack.sha256), data)
                packs.known.add(pack.sha256)
                written += pack.size
        if meter is not None:
            meter.add(pack.size)

    await each(write, enumerate(parts(stream, sizes)), at_once=PARALLEL)
    return tuple(found[number] for number in range(len(sizes))), written


async def stays(blobs: BlobStore, paths: RunPaths, pack: Pack, named: Container[str]) -> bool:
    """Whether a pack is there, and will be when the manifest is that is to name it.

    One that the newest checkpoint does not name, and that is no longer young, may be about to be removed.
    """
    try:
        entry = await blobs.stat(paths.pack(pack.sha256))
    except NotFound:
        return False
    if entry.size != pack.size:
        return False
    return pack.sha256 in named or await blobs.now() - entry.modified <= GRACE / 2


def parts(stream: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """The stream, cut into pieces of these sizes."""
    ends = list(accumulate(sizes))
    return [stream[end - size : end] for end, size in zip(ends, sizes, strict=True)]


async def digest(data: memoryview | bytes) -> str:
    """The sha256 of some bytes, hexadecimal."""
    return await in_thread(lambda: sha256(data).hexdigest())


async def refuse_superseded(blobs: BlobStore, run: str, attempt: int) -> None:
    """Raises Superseded if a later attempt has begun."""
    if await is_superseded(blobs, run, attempt):
        raise Superseded(
            f"run {run}: attempt {attempt} is superseded by a newer one; it saves nothing any more"
        )


async def commit(
    blobs: BlobStore,
    paths: RunPaths,
    manifest: Manifest,
    before_commit: Callable[[], None],
    last_look: Callable[[], Awaitable[None]],
) -> Parent:
    """Write the manifest of packs that are there. Raises Superseded, StoreError, or as `before_commit`.

    before_commit: what must be durable before; called in a worker thread. last_look: the last thing before.
    """
    data = await in_thread(encode, manifest)
    await in_thread(before_commit)
    await refuse_superseded(blobs, manifest.run, manifest.attempt)
    await last_look()
    return Parent(manifest.name, await put_manifest(blobs, paths, manifest, data))


async def put_manifest(blobs: BlobStore, paths: RunPaths, manifest: Manifest, data: bytes) -> str:
    """Put a manifest, whose bytes are `data`; the sha256 of the one that lies there then.

    That one of the same state is there already is fine: an answer was lost, or the step is saved twice; only
    this attempt writes under this name. Raises AlreadyExists if it is of another state.
    """
    path = paths.checkpoint(manifest.attempt, manifest.step)
    try:
        await blobs.put(path, data, create=True)
    except AlreadyExists:
        data = await blobs.get(path)
        held = decode(data, manifest.run, manifest.attempt, manifest.step, path)
        if not held.same_state(manifest):
            raise
    return sha256(data).hexdigest()
