"""A log segment into the index, from where it was left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from crown_exp.errors import CrownError
from crown_exp.folder import Segment, SegmentHeader, decode_segment
from crown_exp.folder.segment import Record, encode_header
from crown_exp.registry.points import Cursor, Place, Span, absorb
from crown_exp.registry.registry import Registry
from crown_exp.storage import BlobStore
from crown_exp.storage.database.statements import in_pieces

TOGETHER = 20_000
"""Records in one transaction: others want to write too."""


async def take_in(
    registry: Registry, content: int, place: Place, cursor: Cursor, found: Segment
) -> tuple[int, int]:
    """Write the records that were found after the cursor; returns how many, and how many were refused.

    Piece by piece, in a transaction each; the cursor moves with the last. content: what the cursor was read
    from. Raises Replaced if the index has another one by now.
    """
    records = [record for batch in found.batches for record in batch]
    at, refused = cursor.records, 0
    for piece in in_pieces(records, TOGETHER) if records else iter([list[Record]()]):
        last = at + len(piece) == cursor.records + len(records)
        span = Span(at, cursor.good_bytes, found.good_bytes if last else None)
        refused += await registry.database.write_in(content, absorb, place, span, piece)
        at += len(piece)
    return len(records), refused


def torn_line(path: str, found: Segment) -> str:
    """What to say of a segment that is not whole and will not be."""
    return (
        f"{path}: what comes after {found.good_bytes:,} bytes is torn or damaged; it is passed over"
    )


async def read_segment(blobs: BlobStore, path: str, place: Place, cursor: Cursor) -> Segment:
    """What a segment has after the cursor. Raises CrownError for what is no segment, or not this one."""
    header = encode_header(place.run, place.attempt, place.segment)
    start = cursor.good_bytes
    head, tail = await _bytes(blobs, path, len(header), start)
    try:
        found = await to_thread.run_sync(decode_segment, head + tail, path)
    except RecursionError:
        raise CrownError(f"{path}: damaged by its writer (too deep)") from None
    if found.header not in (None, SegmentHeader(place.run, place.attempt, place.segment)):
        raise CrownError(f"{path}: is a log segment of something else")
    skipped = max(start - len(header), 0)
    return replace(found, good_bytes=found.good_bytes + skipped)


async def _bytes(blobs: BlobStore, path: str, head: int, start: int) -> tuple[bytes, bytes]:
    """The first bytes of a blob, `head` of them, and the rest but for what lies between them and `start`."""
    local = blobs.local_path(path)
    if local is not None:
        try:
            return await to_thread.run_sync(_from_file, local, head, start)
        except OSError:
            pass  # the store can tell what is wrong
    data = await blobs.get(path)
    return data[:head], data[max(head, start) :]


def _from_file(path: Path, head: int, start: int) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        first = file.read(head)
        file.seek(max(head, start))
        return first, file.read()
