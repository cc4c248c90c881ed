"""Packs read piece by piece, hashed as the pieces arrive.

A network error says nothing of a pack. What may be one, a hash or a size that is not right, or that it is not
there, is asked for again before the pack counts as damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from crown_exp.checkpoints.base import PARALLEL, Progress
from crown_exp.checkpoints.format import Pack
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore, NotFound, WrongSize, wrong_size
from crown_exp.storage.parallel import each, in_thread

PIECE = 4 * 2**20
"""Bytes that are asked for, and hashed, at once."""

LEAST_PIECE = 2**20
UNDER_WAY = 40
"""Of a state that is read into memory 1/40 at most is under way, as that takes memory of its own."""

AHEAD = 2
"""Pieces of one pack that are under way at once."""

Room = Callable[[int, int], memoryview]
"""Where the bytes from `start`, `size` of them, are to lie."""

Take = Callable[[int, memoryview], None]
"""What is done with the bytes that begin at `start`, in a worker thread, in their order."""


Count = Callable[[int], None]
"""Told of so many bytes more, or fewer if they have to be read again; in the event loop."""


class Meter:
    """Tells how far something has come. total: in bytes."""

    def __init__(self, what: str, total: int, progress: Progress | None) -> None:
        self.what, self.total, self.progress = what, total, progress
        self.done = 0
        self.add(0)

    def add(self, count: int) -> None:
        """So many bytes more are done; or fewer, if they have to be done again."""
        self.done += count
        if self.progress is not None:
            self.progress(self.what, self.done, self.total)


TakePart = Callable[[int, int, memoryview], None]
"""As `Take`, of the pack with the number that comes first."""


def piece_of(size: int) -> int:
    """The bytes to ask for at once, of a state of so many that is to be in memory."""
    return max(LEAST_PIECE, min(PIECE, size // (UNDER_WAY * PARALLEL * AHEAD)))


def unused(start: int, data: memoryview) -> None:
    """Nothing is done with the bytes but to hash them."""


def ignored(number: int, start: int, data: memoryview) -> None:
    """As `unused`."""


def scratch(size: int) -> Room:
    """Room for a pack of which only the pieces under way are kept. size: of the pack."""
    rooms = [memoryview(bytearray(min(PIECE, size))) for _ in range(AHEAD if size > PIECE else 1)]
    return lambda start, count: rooms[start // PIECE % len(rooms)][:count]


async def stream_pack(
    blobs: BlobStore,
    path: str,
    pack: Pack,
    room: Room,
    take: Take = unused,
    meter: Meter | None = None,
    piece: int | None = None,
) -> None:
    """Read a pack, verified. What was taken before an error may be wrong. piece: bytes to ask for at once.

    Raises Damaged if its bytes are not those that were written, or it is gone; StoreError.
    """
    trouble: CrownError | None = None
    got = 0

    def count(size: int) -> None:
        nonlocal got
        got += size
        if meter is not None:
            meter.add(size)

    for _ in range(2):
        count(-got)
        try:
            found = await streamed(blobs, path, pack.size, room, take, count, piece or PIECE)
        except NotFound:
            trouble = await what_is_missing(blobs, path)
        except WrongSize as error:
            trouble = await what_is_short(blobs, path, pack.size, error)
        else:
            if found == pack.sha256:
                return
            trouble = Damaged(f"{path} does not hold the bytes that were written")
    assert trouble is not None
    raise trouble


async def what_is_missing(blobs: BlobStore, path: str) -> Damaged | StoreError:
    """What it means that a blob was not found: it is gone, or the store's answer was not right."""
    try:
        await blobs.stat(path)
    except NotFound:
        return Damaged(f"{path} is gone")
    return StoreError(f"{path} is in {blobs.url}, which did not find it; try again later")


async def what_is_short(
    blobs: BlobStore, path: str, size: int, error: WrongSize
) -> Damaged | StoreError:
    """What it means that a blob was not read whole: it has another size, or the store's answer was cut."""
    try:
        entry = await blobs.stat(path)
    except NotFound:
        return Damaged(f"{path} is gone")
    if entry.size != size:
        return Damaged(str(error))
    return StoreError(f"{error}: the answer of the store was cut short; try again")


async def streamed(
    blobs: BlobStore, path: str, size: int, room: Room, take: Take, count: Count, piece: int
) -> str:
    """The sha256 of a blob of `size` bytes; several pieces are under way, and they are taken in order."""
    from anyio import Event, create_task_group

    starts = range(0, size, piece)
    rooms: dict[int, memoryview] = {}
    arrived = [Event() for _ in starts]
    found = sha256()

    async def fetch(number: int) -> None:
        start = starts[number]
        rooms[number] = room(start, min(piece, size - start))
        await blobs.get_into(path, rooms[number], start=start if len(starts) > 1 else None)
        arrived[number].set()

    def hash_and_take(number: int) -> int:
        data = rooms.pop(number)
        found.update(data)
        take(starts[number], data)
        return len(data)

    try:
        async with create_task_group() as group:
            if len(starts) > 1:  # reads of a part do not tell that there is more than was written
                group.start_soon(refuse_other_size, blobs, path, size)
            for number in range(len(starts))[:AHEAD]:
                group.start_soon(fetch, number)
            for number in range(len(starts)):
                await arrived[number].wait()
                count(await in_thread(hash_and_take, number))
                if number + AHEAD < len(starts):
                    group.start_soon(fetch, number + AHEAD)
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return found.hexdigest()


async def refuse_other_size(blobs: BlobStore, path: str, size: int) -> None:
    """Raises WrongSize if a blob has not so many bytes; NotFound."""
    entry = await blobs.stat(path)
    if entry.size != size:
        raise wrong_size(path, blobs.url, entry.size, size, None)


async def stream_packs(
    blobs: BlobStore,
    paths: RunPaths,
    packs: Sequence[Pack],
    take: TakePart = ignored,
    meter: Meter | None = None,
) -> None:
    """Read packs, verified, with little memory. take: of which pack (its place in `packs`), as `Take`.

    Raises as `stream_pack`.
    """

    async def read(part: tuple[int, Pack]) -> None:
        number, pack = part
        await stream_pack(
            blobs, paths.pack(pack.sha256), pack, scratch(pack.size), partial(take, number), meter
        )

    await each(read, enumerate(packs), at_once=PARALLEL)
