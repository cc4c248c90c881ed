"""Run folders for tests of the registry, written as the composer, the submitter and the attempts write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    JobRecord,
    ResultRecord,
    RunPaths,
    RunRecord,
    segment,
)
from crown_exp.folder.segment import Record
from crown_exp.registry import Registry
from crown_exp.registry.models import metadata
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import cancel_job, write_end, write_job, write_result, write_run

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "seed": 0,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.003},
    "model": {"width": 16},
}
RUN = RunRecord(
    id="r261122-k7f3q2", name="digits", experiment="digits", user="ada", created=T0, task="e.train",
    signature="v1:0123456789ab", overrides=["optimizer.lr=0.003"], tags=[], seed=0, compute="local",
    sweep=None, lineage=None, code=None, bound=["model"],
)  # fmt: skip


@dataclass
class Folder:
    """One run's folder in a store."""

    store: BlobStore
    id: str

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.id)

    async def attempt(self, number: int = 1, job: str | None = None) -> None:
        record = AttemptRecord(
            self.id, number, T0 + timedelta(hours=number), "box", 42, 7.5, "boot", job,
            {"device": "cpu"}, {"python": "3.11"},
        )  # fmt: skip
        from crown_exp.folder import encode

        await self.store.put(self.paths.attempt(number), encode(record), create=True)

    async def end(self, number: int = 1, code: int = 0, step: int = 10) -> None:
        ended = T0 + timedelta(hours=number, minutes=30)
        error = {"type": "ValueError", "message": "no", "traceback": "..."} if code == 1 else None
        code_hash: Any = {"hash": "v1:code", "files": ["train.py"]}
        await write_end(
            self.store,
            EndRecord(self.id, number, ended, code, step, f"code {code}", error, code_hash),
        )

    async def result(
        self, result: Any, number: int = 1, step: int = 10, *, pruned: bool = False
    ) -> None:
        ended = T0 + timedelta(hours=number, minutes=30)
        await write_result(self.store, ResultRecord(self.id, number, step, ended, result, pruned))

    async def job(self, number: int = 1, *, cancelled: bool = False) -> None:
        await write_job(
            self.store, JobRecord(self.id, number, "local", T0, f"local:{number}", False)
        )
        if cancelled:
            await cancel_job(self.store, self.id, number, "by the user")

    async def log(
        self,
        batches: Iterable[Sequence[Record]],
        attempt: int = 1,
        number: int = 1,
        torn: bytes = b"",
    ) -> bytes:
        """Write a segment as a whole; returns its bytes."""
        data = segment.encode_header(self.id, attempt, number)
        data += b"".join(map(segment.encode_batch, batches)) + torn
        await self.store.put(self.paths.segment(attempt, number), data)
        return data


async def make_run(
    store: BlobStore, run_id: str = RUN.id, config: Mapping[str, Any] = CONFIG, **changes: Any
) -> Folder:
    """A run that is planned."""
    record = replace(RUN, id=run_id, **changes)
    await write_run(store, record, yaml.safe_dump(dict(config), sort_keys=False).encode())
    return Folder(store, run_id)


async def complete_run(
    store: BlobStore,
    run_id: str = RUN.id,
    result: Any = None,
    losses: Sequence[float] = (3.0, 2.0, 1.0),
    **changes: Any,
) -> Folder:
    """A run that is completed, with the metric `loss` at steps 1, 2, …"""
    made = await make_run(store, run_id, **changes)
    await made.attempt()
    points = [
        segment.point(step, 1e9 + step, {"loss": loss}) for step, loss in enumerate(losses, 1)
    ]
    await made.log([points])
    await made.result({"accuracy": 0.9} if result is None else result, step=len(losses))
    await made.end(step=len(losses))
    return made


async def dump(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    """Every table, in the order of its key."""
    found = {}
    async with registry.database.read() as connection:
        for table in metadata.sorted_tables:
            rows = await connection.execute(table.select().order_by(*table.primary_key.columns))
            found[table.name] = [tuple(map(repr, row)) for row in rows]
    return found
