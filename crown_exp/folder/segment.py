r"""The log segment: metrics and events of one attempt as checked frames, appended to one file.

    "CRWN"  u16 format  frame(header)  frame(batch)  frame(batch) ...      integers little-endian
    frame = u32 length of payload, u32 crc32 of payload, payload

A payload is compact JSON in UTF-8: the header is {"run", "attempt", "segment"}, a batch a
list of records. A record is a list that begins with its kind:

    ["m", step, time, {name: value, ...}]     a point of metrics; time in seconds since 1970, UTC
    ["e", time, kind, {...}]                  an event

Numbers that are not finite are written `NaN`, `Infinity` and `-Infinity`, as Python's json reads
and writes them; a reader in another language must allow for that.

A writer can be killed, and a disk can fill, within a frame; after a power cut the tail can be
zeros. So a reader takes the frames that are whole and stops at the first that is not.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import orjson

from crown_exp.errors import CrownError

MAGIC = b"CRWN"
FORMAT = 1

RESUMED = "resumed"
"""The kind of an event with {"step": n}: the attempt went on from the state after step n."""

Record = Sequence[Any]
"""A point or an event, as above. Kinds that a reader does not know are to be passed over."""

_FORMAT = struct.Struct("<H")
_FRAME = struct.Struct("<II")
_FIRST = len(MAGIC) + _FORMAT.size
FRAME_HEAD = _FRAME.size
"""Bytes before the payload of a frame."""
_SMALLEST = len(b"[]")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Whose segment it is, and which of its attempt, counted from 1."""

    run: str
    attempt: int
    segment: int


@dataclass(frozen=True, slots=True)
class Segment:
    """What could be read of a segment.

    header: None if the data ends, or is damaged, within it.
    batches: the records of every whole frame, in order.
    good_bytes: the length of what is whole; a writer may go on from there.
    torn: whether something that is not whole comes after.
    """

    header: SegmentHeader | None
    batches: list[list[Record]]
    good_bytes: int
    torn: bool


def point(step: int, time: float, values: dict[str, Any]) -> Record:
    """The record of metrics `values` after `step` steps; time in seconds since 1970, UTC."""
    return ["m", step, time, values]


def event(time: float, kind: str, data: dict[str, Any]) -> Record:
    """The record of something that happened; time in seconds since 1970, UTC."""
    return ["e", time, kind, data]


def encode_header(run: str, attempt: int, segment: int) -> bytes:
    """What a segment begins with: whose it is, and which, counted from 1."""
    tree = {"run": run, "attempt": attempt, "segment": segment}
    return MAGIC + _FORMAT.pack(FORMAT) + _frame(tree)


def encode_batch(records: Sequence[Record]) -> bytes:
    """One frame. Raises TypeError if a record holds a value that JSON cannot."""
    return _frame(list(records))


def _frame(tree: object) -> bytes:
    payload = _encoded(tree)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _encoded(tree: object) -> bytes:
    """The tree as JSON: by orjson, eight times as fast, while another thread waits for the interpreter.

    Python's own json does what orjson does not: numbers that are not finite, which orjson writes as null,
    integers beyond 64 bits, halves of surrogate pairs. It also reads: orjson makes floats of such integers.
    """
    try:
        payload = orjson.dumps(tree)
    except TypeError:
        payload = b"null"
    if b"null" in payload:
        return json.dumps(tree, separators=(",", ":")).encode("ascii")
    return payload


def decode_segment(data: bytes, source: str = "log segment") -> Segment:
    """All that is whole in a segment. `source` is its name, for messages.

    Raises CrownError if the data is no segment, or one of a newer format.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise CrownError(f"{source}: not a log segment of crown_exp")
    if len(data) < _FIRST:
        return Segment(None, [], 0, True)
    (written,) = _FORMAT.unpack_from(data, len(MAGIC))
    if written != FORMAT:
        raise CrownError(
            f"{source}: has format {written}, this crown_exp reads {FORMAT}; upgrade crown_exp"
        )
    file = io.BytesIO(data)
    file.seek(_FIRST)
    found = list(frames(file, _FIRST, len(data)))
    if not found:
        return Segment(None, [], 0, True)
    payloads, good = [payload for _, payload in found], found[-1][0]
    try:
        first = json.loads(payloads[0])
        header = SegmentHeader(first["run"], first["attempt"], first["segment"])
        batches = [json.loads(payload) for payload in payloads[1:]]
    except (KeyError, TypeError, ValueError) as error:
        raise CrownError(f"{source}: damaged by its writer ({error})") from None
    return Segment(header, batches, good, good < len(data))


def frames(file: IO[bytes], at: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(where it ends, payload) of every whole frame of a segment of `size` bytes, from byte `at` on.

    The file stands at that byte. A tail of zeros is none: it has the right checksum for no bytes, and no
    payload is that short.
    """
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        length, crc = _FRAME.unpack(head)
        at += _FRAME.size + length
        if length < _SMALLEST or at > size:
            return
        payload = file.read(length)
        if len(payload) != length or zlib.crc32(payload) != crc:
            return
        yield at, payload
