"""The file that W&B writes for a run, read back as far as it is whole: its writer may have been killed.

It is a LevelDB log: blocks of 32 KiB, in them chunks of crc32, length, kind and data; a chunk is a record, or
the first, a middle or the last part of one. What a record holds only W&B's own protobuf can tell.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

MAGIC = b":W&B"
BLOCK = 32 << 10
HEAD = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(file: IO[bytes]) -> Iterator[bytes]:
    """The records up to the first that is not whole. file: at its beginning; none if it is no such file."""
    if file.read(HEAD.size)[: len(MAGIC)] != MAGIC:
        return
    parts: list[bytes] = []
    for kind, data in _chunks(file):
        if kind in (WHOLE, FIRST):
            parts = []
        elif not parts:
            return  # the rest of something that did not begin
        parts.append(data)
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts = []


def _chunks(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of each chunk after the file's own head, until one is torn or damaged."""
    at = HEAD.size
    while True:
        if (left := BLOCK - at % BLOCK) < HEAD.size:  # too little for a chunk
            file.read(left)
            at += left
        head = file.read(HEAD.size)
        if len(head) < HEAD.size:
            return
        checksum, length, kind = HEAD.unpack(head)
        data = file.read(length)
        if len(data) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        yield kind, data
        at += HEAD.size + length
