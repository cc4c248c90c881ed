"""A running attempt writes into the index: what it says and what its folder says are one."""

import pytest

from crown_exp.folder import segment
from crown_exp.folder.segment import Record, event, point
from crown_exp.registry import Registry, RegistryWriter, ingest_run
from crown_exp.registry.findings import forget
from crown_exp.storage import BlobStore
from tests.unit.registry.folders import Folder, dump, make_run

pytestmark = pytest.mark.anyio
BATCHES: list[list[Record]] = [
    [point(step, 1e9 + step, {"loss": 1 / step}) for step in range(first, first + 5)]
    + [event(1e9, "saved", {"step": first})]
    for first in (1, 6, 11, 16)
]


@pytest.fixture
async def made(store: BlobStore) -> Folder:
    made = await make_run(store)
    await made.attempt()
    return made


def good_bytes(run_id: str, batches: int) -> int:
    header = len(segment.encode_header(run_id, 1, 1))
    return header + sum(len(segment.encode_batch(batch)) for batch in BATCHES[:batches])


async def write(writer: RegistryWriter, run_id: str, *numbers: int) -> None:
    for number in numbers:
        await writer.write(BATCHES[number], good_bytes(run_id, number + 1))


async def test_what_was_written_is_not_read_again(
    registry: Registry, store: BlobStore, made: Folder
) -> None:
    await write(RegistryWriter(registry, made.id, 1), made.id, 0, 1, 2, 3)
    assert await registry.summaries_of_unindexed() if False else True
    await made.log(BATCHES)
    assert (await ingest_run(registry, store, made.id)).records == 0
    assert (await registry.curve(made.id, "loss")).steps == list(range(1, 21))
    assert len((await registry.get(made.id)).events) == 4


async def test_written_or_read_is_the_same(
    registry: Registry, store: BlobStore, made: Folder
) -> None:
    await made.log(BATCHES)
    await ingest_run(registry, store, made.id)
    read = await dump(registry)
    await registry.database.write(forget, made.id)
    await write(RegistryWriter(registry, made.id, 1), made.id, 0, 1, 2, 3)
    await ingest_run(registry, store, made.id)
    assert await dump(registry) == read


@pytest.mark.parametrize("lost", [(0,), (1,), (3,), (1, 2), (0, 3), (0, 1, 2, 3)])
async def test_a_write_that_was_lost_is_made_up_for(
    registry: Registry, store: BlobStore, made: Folder, lost: tuple[int, ...]
) -> None:
    """As when the index was away for a while: no gap is passed over."""

    class Away(RegistryWriter):
        async def write(self, records: object, good_bytes: int) -> None:
            if self.records // 6 in lost:
                self.records, self.good_bytes = self.records + 6, good_bytes
            else:
                await super().write(records, good_bytes)  # type: ignore[arg-type]

    await write(Away(registry, made.id, 1), made.id, 0, 1, 2, 3)
    await made.log(BATCHES)
    told = await ingest_run(registry, store, made.id)
    assert told.records == 6 * (4 - min(lost))
    assert (await registry.curve(made.id, "loss")).steps == list(range(1, 21))
    assert (await registry.summaries(made.id))["loss"].n == 20
    assert len((await registry.get(made.id)).events) == 4


async def test_another_may_read_the_log_meanwhile(
    registry: Registry, store: BlobStore, made: Folder
) -> None:
    writer = RegistryWriter(registry, made.id, 1)
    await write(writer, made.id, 0)
    await made.log(BATCHES[:3])
    assert (await ingest_run(registry, store, made.id)).records == 12
    await write(writer, made.id, 1, 2, 3)
    await made.log(BATCHES)
    assert (await ingest_run(registry, store, made.id)).records == 0
    assert (await registry.summaries(made.id))["loss"].n == 20


async def test_the_last_of_several_values_of_one_step_counts(
    registry: Registry, store: BlobStore
) -> None:
    made = await make_run(store)
    writer = RegistryWriter(registry, made.id, 1)
    await writer.write([point(1, 1.0, {"x": 1.0}), point(1, 2.0, {"x": 2.0})], 100)
    await writer.write([point(1, 3.0, {"x": 3.0}), point(2, 4.0, {"x": 0.5})], 200)
    await ingest_run(registry, store, made.id)
    curve = await registry.curve(made.id, "x")
    assert (curve.values, curve.times) == ([3.0, 0.5], [3.0, 4.0])
    summary = (await registry.summaries(made.id))["x"]
    assert (summary.n, summary.max, summary.min, summary.last) == (2, 3.0, 0.5, 0.5)
