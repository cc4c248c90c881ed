"""From the store to a state whose every byte is what was written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from crown_exp.checkpoints.base import PARALLEL, Progress
from crown_exp.checkpoints.commit import digest, parts
from crown_exp.checkpoints.format import Manifest, Pack, Parent, decode
from crown_exp.checkpoints.mirror import Mirror
from crown_exp.checkpoints.streaming import Meter, Room, piece_of, stream_pack
from crown_exp.errors import StoreError
from crown_exp.folder.paths import RunPaths, checkpoint_name
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore, NotFound
from crown_exp.storage.parallel import each

Number = tuple[int, int]
"""(attempt, step) of a checkpoint: in this order newer ones are greater."""


@dataclass(frozen=True)
class Present:
    """The checkpoints that lie in a run's folder. damaged: those that are marked so."""

    manifests: frozenset[Number]
    damaged: frozenset[Number]

    @property
    def usable(self) -> list[Number]:
        """Those not marked, newest first."""
        return sorted(self.manifests - self.damaged, reverse=True)


@dataclass(frozen=True)
class Verified:
    """A checkpoint whose bytes are in memory and right. damaged: newer ones that were not, a line each."""

    manifest: Manifest
    parent: Parent
    damaged: tuple[str, ...]


async def look(blobs: BlobStore, paths: RunPaths) -> Present:
    """Which checkpoints there are: one listing."""
    found = [entry.path for entry in await blobs.list(paths.checkpoints)]
    return Present(
        frozenset(filter(None, map(paths.checkpoint_number, found))),
        frozenset(filter(None, map(paths.damaged_number, found))),
    )


async def read_manifest(
    blobs: BlobStore, paths: RunPaths, number: Number
) -> tuple[Manifest, Parent]:
    """A manifest, and what names it as a parent. Raises NotFound, Damaged, NewerFormat."""
    path = paths.checkpoint(*number)
    data = await blobs.get(path)
    try:
        manifest = decode(data, paths.run_id, *number, path)
    except Damaged:  # what was wrong may have been the way here
        data = await blobs.get(path)
        manifest = decode(data, paths.run_id, *number, path)
    return manifest, Parent(manifest.name, sha256(data).hexdigest())


async def read_listed(
    blobs: BlobStore, paths: RunPaths, number: Number
) -> tuple[Manifest, Parent] | None:
    """As `read_manifest`, of one that a listing named; None if it has been removed since.

    Raises StoreError if it is listed and not found, which says nothing of it; Damaged, NewerFormat.
    """
    for _ in range(2):
        try:
            return await read_manifest(blobs, paths, number)
        except NotFound:
            if number not in (await look(blobs, paths)).manifests:
                return None
    raise StoreError(
        f"{blobs.url} lists {paths.checkpoint(*number)}, and does not find it; try again later"
    )


async def read_pack(blobs: BlobStore, paths: RunPaths, pack: Pack) -> bytes:
    """The bytes of a pack. Raises Damaged if they are not what was written, NotFound."""
    path = paths.pack(pack.sha256)
    for _ in range(2):  # the second time, as what was wrong may have been the way here
        data = await blobs.get(path)
        if await digest(data) == pack.sha256:
            return data
    raise Damaged(f"{path} does not hold the bytes that were written")


async def read_packs(
    blobs: BlobStore,
    paths: RunPaths,
    manifest: Manifest,
    stream: memoryview,
    *,
    mirror: Mirror | None = None,
    progress: Progress | None = None,
) -> None:
    """Read all packs into the stream, verified while they arrive.

    mirror: where a pack is looked for first. Raises Damaged naming the first that is not right; StoreError.
    """
    size = manifest.layout.bytes
    meter, piece = Meter("restoring", size, progress), piece_of(size)

    async def read(part: tuple[Pack, memoryview]) -> None:
        pack, data = part
        if mirror is not None and await mirror.read(pack, data):
            meter.add(pack.size)
            return
        path = paths.pack(pack.sha256)
        await stream_pack(blobs, path, pack, within(data), meter=meter, piece=piece)

    pieces = parts(stream, [pack.size for pack in manifest.packs])
    await each(read, zip(manifest.packs, pieces, strict=True), at_once=PARALLEL)


def within(data: memoryview) -> Room:
    """Room for a pack that is kept as a whole."""
    return lambda start, size: data[start : start + size]


async def restore_newest(
    blobs: BlobStore,
    paths: RunPaths,
    room: Callable[[int], memoryview],
    *,
    mirror: Mirror | None = None,
    progress: Progress | None = None,
) -> Verified | None:
    """Read the newest checkpoint that verifies; those that do not are marked. None if there is none at all.

    room: gives memory of that many bytes. mirror, progress: as `read_packs`. Raises Damaged if there are
    checkpoints and none verifies, NewerFormat, StoreError if the store cannot be read: that says nothing of a
    checkpoint, and marks none.
    """
    told: list[str] = []
    tried: set[Number] = set()
    while True:
        present = await look(blobs, paths)
        number = next((number for number in present.usable if number not in tried), None)
        if number is None:
            break
        tried.add(number)
        try:
            found = await read_listed(blobs, paths, number)
            if found is None:  # removed by the attempt before, which is not quite dead: look again
                continue
            manifest, parent = found
            stream = room(manifest.layout.bytes)
            await read_packs(blobs, paths, manifest, stream, mirror=mirror, progress=progress)
        except Damaged as error:
            if await is_gone(blobs, paths.checkpoint(*number)):
                continue
            line = f"checkpoint {checkpoint_name(*number)} is damaged: {error}"
            await blobs.put(paths.damaged(*number), f"{line}\n".encode())
            told.append(line)
        except StoreError as error:
            if not is_bad_sector(error):
                raise
            told.append(f"checkpoint {checkpoint_name(*number)} is passed over: {error}")
        else:
            return Verified(manifest, parent, tuple(told))
    if not (present.manifests or present.damaged or tried):
        return None
    raise Damaged(_none_left(blobs, paths, present, told))


def is_bad_sector(error: StoreError) -> bool:
    """Whether a disk cannot read what it holds: of one checkpoint that says nothing of the one before."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EIO


async def is_gone(blobs: BlobStore, path: str) -> bool:
    """Whether there is no such blob any more."""
    try:
        await blobs.stat(path)
    except NotFound:
        return True
    return False


def _none_left(blobs: BlobStore, paths: RunPaths, present: Present, told: list[str]) -> str:
    count = len(present.manifests | present.damaged)
    why = told[0] if told else "all were found damaged before"
    return (
        f"run {paths.run_id} has {count} checkpoint{'s'[: count > 1]} in {blobs.url} and none verifies "
        f"({why}); bring back the files from a copy and remove the .damaged markers in {paths.checkpoints}, or "
        "begin a new run"
    )
