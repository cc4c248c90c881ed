"""What a running attempt writes into the index itself, so that others need not read its log."""

from __future__ import annotations

from collections.abc import Sequence

from crown_exp.folder.segment import Record
from crown_exp.registry.points import Place, Span, absorb
from crown_exp.registry.registry import Registry


class RegistryWriter:
    """The records of one segment, handed on in the order in which they were written to it.

    The segment is the truth and this is a mirror of it: a write that fails (DatabaseError) may be forgotten.
    The index then knows that something is missing, and the next `ingest_run` reads that from the segment.
    """

    def __init__(self, registry: Registry, run_id: str, attempt: int, segment: int = 1) -> None:
        self.registry, self.place = registry, Place(run_id, attempt, segment)
        self.records = self.good_bytes = 0

    async def write(self, records: Sequence[Record], good_bytes: int) -> None:
        """Add records. good_bytes: the length of the segment now that it holds them. Raises DatabaseError."""
        span = Span(self.records, self.good_bytes, good_bytes)
        self.records, self.good_bytes = self.records + len(records), good_bytes
        await self.registry.database.write(absorb, self.place, span, records)
