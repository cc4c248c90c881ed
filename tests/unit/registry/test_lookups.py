"""Single runs looked up, and runs beside each other."""

import math
from datetime import timedelta
from typing import Any

import pytest

from crown_exp.errors import ConfigError
from crown_exp.folder.segment import point
from crown_exp.registry import Registry, ingest_run, refresh
from crown_exp.registry.base import Summary
from crown_exp.storage import BlobStore
from tests.unit.registry.folders import T0, complete_run, make_run

pytestmark = pytest.mark.anyio
IDS = ("r261122-k7f3q2", "r261122-k7zzzz", "r261123-m2m2m2", "r261123-m2")


@pytest.fixture
async def four(registry: Registry, store: BlobStore) -> Registry:
    for run_id in IDS:
        await make_run(store, run_id)
        await ingest_run(registry, store, run_id)
    return registry


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("r261122-k7f3q2", "r261122-k7f3q2"),
        ("r261122-k7f", "r261122-k7f3q2"),
        ("k7f", "r261122-k7f3q2"),
        (" K7F ", "r261122-k7f3q2"),
        ("r261123-m2", "r261123-m2"),  # whole, though another begins so
        ("m2m", "r261123-m2m2m2"),
    ],
)
async def test_any_unique_prefix_finds_a_run(four: Registry, prefix: str, expected: str) -> None:
    assert await four.find(prefix) == expected
    assert (await four.get(prefix)).run.id == expected


@pytest.mark.parametrize("prefix", ["x", "261122", "%", "k7_", "k7f3q2x", "\x7f"])
async def test_an_unknown_run_says_how_to_list_them(four: Registry, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"no run that is indexed has this id; `crown-exp runs`"):
        await four.find(prefix)


@pytest.mark.parametrize("prefix", ["", "  "])
async def test_nothing_is_no_beginning_of_an_id(four: Registry, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"^run: expected an id or its beginning, or `latest`"):
        await four.find(prefix)


async def test_an_ambiguous_prefix_names_the_candidates(four: Registry, store: BlobStore) -> None:
    with pytest.raises(ConfigError) as caught:
        await four.get("k7")
    assert (
        str(caught.value)
        == "k7: several runs fit: r261122-k7zzzz, r261122-k7f3q2; type more of the id"
    )
    for number in range(6):
        await make_run(store, f"r261124-aaaaa{number}")
        await ingest_run(four, store, f"r261124-aaaaa{number}")
    with pytest.raises(ConfigError, match=r"r261124-aaaaa5, .*, \.\.\.; type more"):
        await four.find("r2")


async def test_a_curve_in_fewer_points(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)
    values = {step: float(step) for step in range(10, 110)} | {50: math.nan}
    await made.log([[point(step, step, {"x": value}) for step, value in values.items()]])
    await ingest_run(registry, store, made.id)
    whole = await registry.curve(made.id, "x")
    assert (whole.steps, len(whole.values)) == (list(values), 100)
    assert await registry.curve(made.id, "x", at_most=100) is not None
    few = await registry.curve(made.id, "x", at_most=10)
    assert few.steps == list(range(19, 110, 10)) and few.times == few.steps
    assert few.values[0] == pytest.approx(14.5)
    assert few.values[4] == pytest.approx((sum(range(50, 60)) - 50) / 9)  # without the nan
    assert len((await registry.curve(made.id, "x", at_most=7)).steps) <= 7


async def test_a_metric_that_a_run_has_not(registry: Registry, store: BlobStore) -> None:
    made = await complete_run(store)
    await ingest_run(registry, store, made.id)
    with pytest.raises(
        ConfigError, match=r"^los: r261122-k7f3q2 has no metric .*; did you mean loss\?"
    ):
        await registry.curve("k7f", "los")


async def test_runs_beside_each_other(registry: Registry, store: BlobStore) -> None:
    code: Any = {"commit": "c0ffee", "dirty": False, "snapshot": None}
    config = {"lr": 0.1, "model": {"kind": "cnn", "width": 16}}
    other = {"lr": 0.1, "model": {"kind": "mlp", "depth": [1, 2]}}
    await complete_run(store, IDS[0], {"accuracy": 0.5}, code=code, config=config)
    await complete_run(store, IDS[1], {"accuracy": 0.75, "f1": 0.5}, [9.0], code=code, config=other)
    await make_run(store, IDS[2], config)
    for run_id in IDS[:3]:
        await ingest_run(registry, store, run_id)

    found = await registry.compare(["k7z", "k7f", "k7z"])
    assert [run.id for run in found.runs] == [IDS[1], IDS[0]]
    assert found.config == {
        "model.depth": ("[1, 2]", None),
        "model.kind": ("mlp", "cnn"),
        "model.width": (None, "16"),
    }
    assert found.results == {"accuracy": ("0.75", "0.5"), "f1": ("0.5", None)}
    assert found.summaries == {
        "loss": (Summary(1, 1, 9.0, 9.0, 1, 9.0, 1), Summary(3, 3, 1.0, 1.0, 3, 3.0, 1))
    }
    assert found.same_code is True
    assert (await registry.compare([IDS[0], IDS[2]])).same_code is None
    with pytest.raises(ConfigError, match="expected two runs or more"):
        await registry.compare(["k7z", IDS[1]])


async def test_tags_names_and_configs(registry: Registry, store: BlobStore) -> None:
    await complete_run(store, IDS[0], tags=["a", "b"], config={"x": {"y": 1}})
    await complete_run(store, IDS[1], tags=["b"], config={})
    for run_id in IDS[:2]:
        await ingest_run(registry, store, run_id)
    assert list((await registry.tags()).items()) == [("b", 2), ("a", 1)]
    assert await registry.names() == {"metric": ["loss"], "param": ["x.y"], "result": ["accuracy"]}
    assert await registry.configs([*IDS]) == {IDS[0]: {"x": {"y": 1}}, IDS[1]: {}}


async def test_latest_is_the_run_that_was_made_last(registry: Registry, store: BlobStore) -> None:
    with pytest.raises(ConfigError, match=r"^latest: there is no run yet$"):
        await registry.find("latest")
    for number, run_id in enumerate(("r261126-zzzzzz", "r261126-bbbbbb", "r261126-aaaaaa")):
        await complete_run(store, run_id, created=T0 + timedelta(seconds=(1, 3, 2)[number]))
    await refresh(registry, store)
    assert await registry.find("latest") == "r261126-bbbbbb"
