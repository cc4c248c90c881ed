"""A run's folder into the index: everything that is asked later, each thing once."""

import math
import struct
import zlib
from datetime import timedelta
from typing import Any

import pytest

from crown_exp.folder import segment
from crown_exp.folder.segment import event, point
from crown_exp.outcome import State
from crown_exp.registry import Registry, ingest_run
from crown_exp.registry.base import AttemptInfo, EventInfo, FileInfo, Summary
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import cancel_job
from tests.unit.registry.folders import CONFIG, RUN, T0, Folder, complete_run, dump, make_run

pytestmark = pytest.mark.anyio
ID = RUN.id
DEEP: Any = {}
for _ in range(700):
    DEEP = {"a": DEEP}


class Counting:
    """A store that says what was fetched."""

    def __init__(self, store: BlobStore) -> None:
        self.store, self.url, self.fetched = store, store.url, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def get(self, path: str) -> bytes:
        self.fetched.append(path.removeprefix(f"runs/{ID}/"))
        return await self.store.get(path)


async def test_a_completed_run_is_all_there(registry: Registry, store: BlobStore) -> None:
    code: Any = {"commit": "c0ffee", "dirty": True, "snapshot": None}
    sweep: Any = {"id": "s-1", "number": 7, "of": None}
    made = await complete_run(
        store, code=code, sweep=sweep, lineage={"fork": "r1@5"}, tags=["b", "a"], created=T0
    )
    await store.put(f"{made.paths.files}000300/samples.png", b"12345")
    await store.put(f"{made.paths.files}report.html", b"1")
    told = await ingest_run(registry, store, ID)
    assert (told.records, told.gone, told.problems) == (3, False, ())

    found = await registry.get(ID)
    run = found.run
    assert (run.id, run.name, run.experiment, run.user, run.task) == (
        ID,
        "digits",
        "digits",
        "ada",
        "e.train",
    )
    assert (run.state, run.step, run.attempt, run.exit_code, run.reason) == (
        "completed",
        3,
        1,
        0,
        "code 0",
    )
    assert (run.created, run.started) == (T0, T0 + timedelta(hours=1))
    assert run.ended == T0 + timedelta(hours=1, minutes=30)
    assert (run.tags, run.note, run.result) == (("a", "b"), "", {"accuracy": 0.9})
    assert (run.code, run.sweep, run.lineage) == (code, sweep, {"fork": "r1@5"})
    assert run.overrides == ("optimizer.lr=0.003",)
    assert run.bytes == sum(entry.size for entry in await store.list(made.paths.root))
    assert run.store == store.url
    assert found.config == CONFIG
    assert found.attempts == (
        AttemptInfo(
            attempt=1, started=T0 + timedelta(hours=1), host="box", job=None,
            numerics={"device": "cpu"}, versions={"python": "3.11"},
            ended=T0 + timedelta(hours=1, minutes=30), exit_code=0, step=3, reason="code 0", error=None,
            code_hash="v1:code",
        ),
    )  # fmt: skip
    assert found.summaries == {"loss": Summary(3, 3, 1.0, 1.0, 3, 3.0, 1)}
    assert found.files == (
        FileInfo("000300/samples.png", 300, 5, "image"),
        FileInfo("report.html", None, 1, "file"),
    )


async def test_states_are_those_of_the_folder(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)

    async def told() -> State:
        await ingest_run(registry, store, ID)
        return (await registry.get(ID, now=await store.now())).run.state

    assert await told() is State.PLANNED
    await made.job()
    assert await told() is State.QUEUED
    await made.attempt(1, job="local:1")
    assert await told() is State.RUNNING
    later = await store.now() + timedelta(minutes=5)
    assert (await registry.get(ID, now=later)).run.state is State.LOST  # nothing was written since
    await made.end(1, code=75, step=40)
    assert await told() is State.PREEMPTED
    assert (await registry.get(ID)).run.step == 40
    await made.attempt(2)
    assert await told() is State.RUNNING
    run = (await registry.get(ID)).run
    assert (run.attempt, run.ended, run.exit_code, run.reason, run.step) == (
        2,
        None,
        None,
        None,
        40,
    )
    await made.end(2, code=1, step=41)
    assert await told() is State.FAILED
    error = (await registry.get(ID)).attempts[1].error
    assert error is not None and error["type"] == "ValueError"


async def test_a_cancel_is_ingested(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)
    await made.job()
    await ingest_run(registry, store, ID)
    assert (await registry.get(ID)).run.state is State.QUEUED
    await cancel_job(store, ID, 1, "by the user")
    await ingest_run(registry, store, ID)
    assert (await registry.get(ID)).run.state is State.STOPPED


async def test_again_is_one_listing_and_changes_nothing(
    registry: Registry, store: BlobStore
) -> None:
    await complete_run(store)
    await ingest_run(registry, store, ID)
    before, counting = await dump(registry), Counting(store)
    told = await ingest_run(registry, counting, ID)
    assert (told.records, counting.fetched) == (0, [])
    assert await dump(registry) == before


async def test_only_what_is_new_of_a_log_is_taken_in(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)
    await made.attempt()
    batches = [
        [point(1, 1.0, {"loss": 3.0})],
        [point(2, 2.0, {"loss": 2.0}), event(2.5, "saved", {"n": 1})],
    ]
    for number in (1, 2):
        await made.log(batches[:number])
        assert (await ingest_run(registry, store, ID)).records == number
    curve = await registry.curve(ID, "loss")
    assert (curve.steps, curve.values, curve.times) == ([1, 2], [3.0, 2.0], [1.0, 2.0])
    assert (await registry.get(ID)).events == (EventInfo(1, 2.5, "saved", {"n": 1}),)
    assert (await registry.get(ID)).run.step == 2


async def test_a_log_that_grows_in_a_file_is_read_from_where_it_was_left(
    registry: Registry, tmp_path: Any
) -> None:
    from crown_exp.storage.file import FileStore

    store = FileStore(tmp_path / "store")
    made = await make_run(store)
    await made.attempt()
    batches = [[point(step, 1.0, {"loss": 1.0})] for step in range(1, 6)]
    await made.log(batches[:3], torn=b"\x07\x00")
    assert (await ingest_run(registry, store, ID)).records == 3
    path = store.local_path(made.paths.segment(1, 1))
    whole = await made.log(batches)
    path.write_bytes(whole)
    assert (await ingest_run(registry, store, ID)).records == 2
    # What was read before is not looked at again.
    broken = bytearray(await made.log([*batches, [point(6, 1.0, {"loss": 1.0})]]))
    broken[len(segment.encode_header(ID, 1, 1)) + 12] ^= 0xFF
    path.write_bytes(broken)
    assert (await ingest_run(registry, store, ID)).records == 1
    assert (await registry.curve(ID, "loss")).steps == [1, 2, 3, 4, 5, 6]


async def test_a_resumed_run_supersedes_what_came_after_its_checkpoint(
    registry: Registry, store: BlobStore
) -> None:
    made = await make_run(store)
    await made.attempt(1)
    await made.log([[point(step, 1.0, {"loss": 1.0, "old": 1.0}) for step in range(1, 11)]], 1)
    await ingest_run(registry, store, ID)
    await made.attempt(2)
    await made.log([[point(step, 2.0, {"loss": 2.0}) for step in range(6, 8)]], 2)
    await ingest_run(registry, store, ID)
    loss = await registry.curve(ID, "loss")
    assert (loss.steps, loss.values) == ([1, 2, 3, 4, 5, 6, 7], [1.0] * 5 + [2.0] * 2)
    assert (await registry.curve(ID, "old")).steps == [1, 2, 3, 4, 5, 6]
    assert (await registry.summaries(ID))["loss"] == Summary(7, 7, 2.0, 1.0, 1, 2.0, 6)
    assert (await registry.get(ID)).run.step == 7
    # The first attempt was no zombie's alone: what it writes late changes nothing.
    await made.log([[point(step, 1.0, {"loss": 1.0, "old": 1.0}) for step in range(1, 21)]], 1)
    await ingest_run(registry, store, ID)
    assert await registry.curve(ID, "loss") == loss
    assert (await registry.summaries(ID))["old"].last_step == 6


async def test_a_resumed_run_may_say_from_where_it_goes_on(
    registry: Registry, store: BlobStore
) -> None:
    made = await make_run(store)
    await made.log([[point(step, 1.0, {"loss": 1.0}) for step in range(1, 11)]], 1)
    await made.log([[event(2.0, "resumed", {"step": 4}), point(9, 2.0, {"loss": 2.0})]], 2)
    await ingest_run(registry, store, ID)
    assert (await registry.curve(ID, "loss")).steps == [1, 2, 3, 4, 9]


async def test_numbers_that_are_none(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)
    values = [math.nan, math.inf, 1.0, -math.inf, math.nan]
    await made.log(
        [[point(step, 1.0, {"x": value, "nan": math.nan}) for step, value in enumerate(values)]]
    )
    await ingest_run(registry, store, ID)
    curve = await registry.curve(ID, "x")
    assert curve.values[1:4] == [math.inf, 1.0, -math.inf]
    assert math.isnan(curve.values[0]) and math.isnan(curve.values[4])
    found = await registry.summaries(ID)
    assert (found["x"].n, found["x"].min, found["x"].max) == (5, -math.inf, math.inf)
    assert math.isnan(found["x"].last)
    assert (found["nan"].min, found["nan"].min_step, found["nan"].max) == (None, None, None)


async def test_a_result_that_holds_what_json_does_not(registry: Registry, store: BlobStore) -> None:
    await complete_run(
        store, result={"loss": math.nan, "ü\udc80": "a\0b", "deep": {"best": math.inf}}
    )
    await ingest_run(registry, store, ID)
    result = (await registry.get(ID)).run.result
    assert math.isnan(result["loss"]) and result["deep"] == {"best": math.inf}
    assert result["ü\\udc80"] == "a\\x00b"


@pytest.mark.parametrize("result", [0.5, 0, False, "", [1, 2], {}])
async def test_any_result_means_completed(
    registry: Registry, store: BlobStore, result: Any
) -> None:
    made = await make_run(store)
    await made.attempt()
    await made.result(result)
    await ingest_run(registry, store, ID)
    run = (await registry.get(ID)).run
    assert (run.state, run.result, run.ended is not None) == ("completed", result, True)


async def test_a_task_that_returned_nothing_and_a_pruned_one_are_over(
    registry: Registry, store: BlobStore
) -> None:
    for run_id, pruned in (("r261122-aaaaaa", False), ("r261122-bbbbbb", True)):
        made = await make_run(store, run_id)
        await made.attempt()
        await made.result(None, pruned=pruned)
        await ingest_run(registry, store, run_id)
        run = (await registry.get(run_id)).run
        assert (run.state, run.result) == ("pruned" if pruned else "completed", None)


async def test_names_in_any_script(registry: Registry, store: BlobStore) -> None:
    names = [
        "精度",
        "🎉",
        "a b",
        "x/y",
        "e\u0301",
        "\u00e9",
        "a\0b",
        "h\udc80",
        "'; DROP TABLE runs; --",
        "",
        "n" * 5000,
    ]
    made = await make_run(store)
    await made.log([[point(1, 1.0, {name: float(index) for index, name in enumerate(names)})]])
    await ingest_run(registry, store, ID)
    assert len(await registry.summaries(ID)) == len(names)
    for index, name in enumerate(names):
        assert (await registry.curve(ID, name)).values == [float(index)]


@pytest.mark.parametrize(
    "record",
    [
        ["m", 1, 1.0, {"loss": "high"}],
        ["m", 1, 1.0, {"loss": True}],
        ["m", 1, 1.0, {"loss": 10**400}],
        ["m", 1.5, 1.0, {"loss": 1.0}],
        ["m", 2**70, 1.0, {"loss": 1.0}],
        ["m", 1, "noon", {"loss": 1.0}],
        ["m", 1, math.nan, {"loss": 1.0}],
        ["m", 1, 1.0, [1.0]],
        ["m", 1],
        ["e", 1.0],
        ["e", 1.0, "deep", DEEP],
        ["e", 1.0, "resumed", {}],
        [],
        None,
        7,
    ],
)
async def test_records_that_are_none_are_told_and_the_rest_is_taken(
    registry: Registry, store: BlobStore, record: Any
) -> None:
    made = await make_run(store)
    await made.log([[point(5, 1.0, {"loss": 5.0}), record, ["?", "of a later version"]]])
    told = await ingest_run(registry, store, ID)
    assert told.problems == (
        f"runs/{ID}/log/000001-000001.seg: 1 records are no points or events; they are passed over",
    )
    assert (await registry.curve(ID, "loss")).values == [5.0]


async def segments_with(made: Folder, bad: bytes) -> None:
    await made.log([[point(1, 1.0, {"loss": 1.0})]], number=1)
    await made.store.put(made.paths.segment(1, 2), bad)
    await made.log([[point(3, 1.0, {"loss": 3.0})]], number=3)


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


FOREIGN = segment.encode_header("r261122-another", 1, 2) + segment.encode_batch(
    [point(2, 1.0, {"a": 1.0})]
)

BOTTOMLESS = segment.encode_header(ID, 1, 2) + frame(b"[" * 100_000)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"PNG of a cat" * 9, "not a log segment of crown_exp; it is passed over"),
        (FOREIGN, "is a log segment of something else; it is passed over"),
        (
            b"CRWN\x09\x00" + bytes(99),
            "has format 9, this crown_exp reads 1; upgrade crown_exp; it is",
        ),
        (
            segment.encode_header(ID, 1, 2) + bytes(64),
            "what comes after 62 bytes is torn or damaged",
        ),
        (b"CR", "what comes after 0 bytes is torn or damaged"),
        (BOTTOMLESS, "damaged by its writer (too deep); it is passed over"),
    ],
)
async def test_a_segment_that_cannot_be_read_is_told_and_the_others_are(
    registry: Registry, store: BlobStore, bad: bytes, said: str
) -> None:
    made = await complete_run(store)
    await segments_with(made, bad)
    (problem,) = (await ingest_run(registry, store, ID)).problems
    assert problem.startswith(f"runs/{ID}/log/000001-000002.seg: ") and said in problem
    assert (await registry.curve(ID, "loss")).steps == [1, 3]


async def test_a_frame_that_is_being_written_is_no_problem(
    registry: Registry, store: BlobStore
) -> None:
    made = await make_run(store)
    await made.attempt()
    await made.log([[point(1, 1.0, {"loss": 1.0})]], torn=b"\x20\x00\x00")
    assert (await ingest_run(registry, store, ID)).problems == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"a: [", "not the YAML"),
        (b"\xff\xfe\x00", "not the YAML"),
        (b"a: &a {b: *a}", "not the YAML"),
        (b"{a: " * 5000, "not the YAML"),
        (b"7", "not a mapping"),
        (None, "is missing"),
    ],
)
async def test_a_config_that_cannot_be_read_costs_only_itself(
    registry: Registry, store: BlobStore, config: bytes | None, said: str
) -> None:
    made = await complete_run(store)
    await store.delete(made.paths.config)
    if config is not None:
        await store.put(made.paths.config, config)
    (problem,) = (await ingest_run(registry, store, ID)).problems
    assert said in problem and f"runs/{ID}/config.yaml" in problem
    found = await registry.get(ID)
    assert (found.run.state, found.config) == ("completed", None)


async def test_a_config_may_hold_what_json_has_not(registry: Registry, store: BlobStore) -> None:
    made = await complete_run(store)
    text = b"day: 2026-11-22\nraw: !!binary aGk=\nnan: .nan\n7: seven\n"
    await store.put(made.paths.config, text)
    assert (await ingest_run(registry, store, ID)).problems == ()
    config = (await registry.get(ID)).config
    assert config is not None and math.isnan(config.pop("nan"))
    assert config == {"day": "2026-11-22", "raw": "b'hi'", "7": "seven"}


async def test_a_file_s_name_may_be_in_no_encoding(registry: Registry, tmp_path: Any) -> None:
    from crown_exp.storage.file import FileStore

    store = FileStore(tmp_path / "store")
    made = await complete_run(store, name="a\0b", user="\udc80")
    folder = store.local_path(made.paths.record).parent / "files"
    folder.mkdir()
    (folder / "ok.txt").touch()
    try:
        (folder / "bad\udcff.txt").touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    assert (await ingest_run(registry, store, ID)).problems == ()
    assert [file.path for file in (await registry.get(ID)).files] == ["bad\\udcff.txt", "ok.txt"]


@pytest.mark.parametrize("name", ["run.json", "result.json", "attempts/000001.json"])
async def test_a_record_that_cannot_be_read_costs_the_run_and_no_other(
    registry: Registry, store: BlobStore, name: str
) -> None:
    await complete_run(store)
    await store.put(f"runs/{ID}/{name}", b"{")
    (problem,) = (await ingest_run(registry, store, ID)).problems
    assert problem.startswith(f"runs/{ID}/{name}: damaged") and "is not indexed" in problem
    await complete_run(store, "r261122-zzzzzz")
    await ingest_run(registry, store, "r261122-zzzzzz")
    assert [run.id for run in (await registry.page()).runs] == ["r261122-zzzzzz"]


async def test_a_damaged_note_costs_only_itself(registry: Registry, store: BlobStore) -> None:
    await complete_run(store, tags=["a"])
    await store.put(f"runs/{ID}/notes/000001.json", b"{")
    (problem,) = (await ingest_run(registry, store, ID)).problems
    assert problem.startswith(f"runs/{ID}/notes/000001.json: damaged")
    assert (await registry.get(ID)).run.tags == ("a",)


@pytest.mark.parametrize("step", [3, 2**80])
async def test_what_no_database_holds_is_told(
    registry: Registry, store: BlobStore, step: int
) -> None:
    made = await make_run(store)
    await made.attempt()
    await made.result({"huge": 10**400} if step > 3 else DEEP, step=step)
    (problem,) = (await ingest_run(registry, store, ID)).problems
    assert problem.startswith(f"runs/{ID}: ") and problem.endswith("is not indexed")
    assert (await registry.page()).runs == ()


async def test_a_run_whose_folder_is_gone_is_forgotten(
    registry: Registry, store: BlobStore
) -> None:
    await complete_run(store)
    await complete_run(store, "r261122-zzzzzz")
    for run_id in (ID, "r261122-zzzzzz"):
        await ingest_run(registry, store, run_id)
    for entry in await store.list(f"runs/{ID}/"):
        await store.delete(entry.path)
    assert (await ingest_run(registry, store, ID)).gone
    for name, rows in (await dump(registry)).items():
        assert not any(repr(ID) in row for row in rows), name
        assert any(repr("r261122-zzzzzz") in row for row in rows) or name in (
            "keys",
            "jobs",
            "events",
            "files",
            "tags",
        )


async def test_the_same_run_in_another_store_is_read_anew(
    registry: Registry, store: BlobStore
) -> None:
    from crown_exp.storage import open_blobs

    await complete_run(store, losses=[1.0] * 9)
    await ingest_run(registry, store, ID)
    other = open_blobs(f"{store.url}-copy")
    await complete_run(other, losses=[2.0])
    await ingest_run(registry, other, ID)
    assert (await registry.curve(ID, "loss")).values == [2.0]
    assert (await registry.get(ID)).run.store == other.url


async def test_the_last_of_several_values_of_one_step_counts(
    registry: Registry, store: BlobStore
) -> None:
    made = await make_run(store)
    batches = [[segment.point(1, 1.0, {"x": 1.0}), segment.point(1, 2.0, {"x": 2.0})]]
    await made.log(batches)
    await ingest_run(registry, store, made.id)
    later = [segment.point(1, 3.0, {"x": 3.0}), segment.point(2, 4.0, {"x": 0.5})]
    await made.log([*batches, later])
    await ingest_run(registry, store, made.id)
    curve = await registry.curve(made.id, "x")
    assert (curve.values, curve.times) == ([3.0, 0.5], [3.0, 4.0])
    summary = (await registry.summaries(made.id))["x"]
    assert (summary.n, summary.max, summary.min, summary.last) == (2, 3.0, 0.5, 0.5)
