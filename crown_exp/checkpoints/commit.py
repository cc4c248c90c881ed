"""From bytes in memory to a checkpoint in the store: packs, and then the manifest, which is the commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import accumulate

from crown_exp.checkpoints.base import PARALLEL
from crown_exp.checkpoints.format import Manifest, Pack, Parent, decode, encode
from crown_exp.errors import Superseded
from crown_exp.folder.paths import RunPaths
from crown_exp.storage.base import AlreadyExists, BlobStore, NotFound
from crown_exp.storage.parallel import each, in_thread
from crown_exp.storage.runs import is_superseded


async def write_packs(
    blobs: BlobStore, paths: RunPaths, stream: memoryview, sizes: Sequence[int], known: set[str]
) -> tuple[tuple[Pack, ...], int]:
    """Hash the packs of a stream and write those that are missing; also how many bytes were written.

    known: packs that were verified or written by this process, and need not be written again if they are still
    there; those written now are added. Any other that lies there is written over: who knows what it holds.
    """
    packs: dict[int, Pack] = {}
    begun: set[str] = set()
    written = 0

    async def write(part: tuple[int, memoryview]) -> None:
        nonlocal written
        number, data = part
        pack = Pack(await digest(data), len(data))
        packs[number] = pack
        if pack.sha256 in begun:
            return
        begun.add(pack.sha256)
        path = paths.pack(pack.sha256)
        if pack.sha256 in known and await is_there(blobs, path, pack.size):
            return
        known.discard(pack.sha256)
        await blobs.put(path, data)
        known.add(pack.sha256)
        written += pack.size

    await each(write, enumerate(parts(stream, sizes)), at_once=PARALLEL)
    return tuple(packs[number] for number in range(len(sizes))), written


def parts(stream: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """The stream, cut into pieces of these sizes."""
    ends = list(accumulate(sizes))
    return [stream[end - size : end] for end, size in zip(ends, sizes, strict=True)]


async def digest(data: memoryview | bytes) -> str:
    """The sha256 of some bytes, hexadecimal."""
    return await in_thread(lambda: sha256(data).hexdigest())


async def is_there(blobs: BlobStore, path: str, size: int) -> bool:
    """Whether there is a blob of that size."""
    try:
        return (await blobs.stat(path)).size == size
    except NotFound:
        return False


async def refuse_superseded(blobs: BlobStore, run: str, attempt: int) -> None:
    """Raises Superseded if a later attempt has begun."""
    if await is_superseded(blobs, run, attempt):
        raise Superseded(
            f"run {run}: attempt {attempt} is superseded by a newer one; it saves nothing any more"
        )


async def commit(
    blobs: BlobStore, paths: RunPaths, manifest: Manifest, before_commit: Callable[[], None]
) -> Parent:
    """Write the manifest of packs that are there. Raises Superseded, StoreError, or as `before_commit`.

    before_commit: what must be durable before; called in a worker thread.
    """
    data = await in_thread(encode, manifest)
    await in_thread(before_commit)
    await refuse_superseded(blobs, manifest.run, manifest.attempt)
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
