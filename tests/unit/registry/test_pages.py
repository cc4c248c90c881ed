"""Pages of runs: which, in what order, with what beside them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from crown_exp.errors import ConfigError
from crown_exp.outcome import State
from crown_exp.registry import Filter, Registry, ingest_run, parse_filter
from crown_exp.storage import BlobStore
from tests.unit.registry.folders import T0, complete_run, make_run

pytestmark = pytest.mark.anyio
NOW = T0 + timedelta(days=10)


def config(lr: float, **more: Any) -> dict[str, Any]:
    return {"optimizer": {"lr": lr}, "model": {"kind": "cnn"}, "debug": False, **more}


@pytest.fixture
async def six(registry: Registry, store: BlobStore) -> Registry:
    """Runs a to f, a day apart, the newest is f."""
    runs: dict[str, dict[str, Any]] = {
        "a": {"config": config(0.1), "result": {"accuracy": 0.5}, "tags": ["paper"]},
        "b": {"config": config(0.01), "result": {"accuracy": 0.9}, "tags": ["paper", "best"], "user": "bob"},
        "c": {"config": config(0.001), "result": {"accuracy": 0.7}, "experiment": "other"},
        "d": {"config": {"lr": 0.02}, "result": {"test": {"accuracy": 0.8}}, "losses": [0.3, 0.1, 0.2]},
    }  # fmt: skip
    for day, (letter, what) in enumerate(runs.items()):
        await complete_run(store, f"r261122-{letter * 6}", created=T0 + timedelta(days=day), **what)
    failed = await make_run(
        store, "r261122-eeeeee", config(0.1), created=T0 + timedelta(days=4), name="Big One"
    )
    await failed.attempt()
    await failed.end(code=1, step=7)
    sweep: Any = {"id": "s-1", "number": 1, "of": 2}
    await make_run(
        store, "r261122-ffffff", config(0.5), created=T0 + timedelta(days=5), sweep=sweep, compute="gpu",
        signature="v1:ffff00",
    )  # fmt: skip
    for letter in "abcdef":
        assert (await ingest_run(registry, store, f"r261122-{letter * 6}")).problems == ()
    return registry


async def letters(registry: Registry, text: str = "", sort: str = "-created", **more: Any) -> str:
    page = await registry.page(parse_filter(text), sort=sort, now=NOW, **more)
    return "".join(run.id[-1] for run in page.runs)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "fedcba"),
        ("experiment:digits", "fedba"),
        ("tag:paper", "ba"),
        ("tag:paper tag:best", "b"),
        ("tag:none", ""),
        ("user:bob", "b"),
        ("sweep:s-1", "f"),
        ("compute:gpu", "f"),
        ("signature:ffff", "f"),
        ("signature:v1:ffff00", "f"),
        ("signature:00", ""),
        ('name:"big o"', "e"),
        ("name:%", ""),
        ("age<6d", "fe"),
        ("age>6d", "dcba"),
        ("age<999999d", "fedcba"),
        ("state:completed", "dcba"),
        ("state:failed", "e"),
        ("state:planned", "f"),
        ("state:failed,planned tag:paper", ""),
        ("state:running", ""),
        ("optimizer.lr<0.05", "cb"),
        ("lr<0.05", "dcb"),
        ("lr=0.1", "ea"),
        ("lr!=0.1", "fdcb"),
        ("accuracy>0.6", "dcb"),
        ("accuracy>0.6 lr<0.01 experiment:other", "c"),
        ("model.kind=cnn", "fecba"),
        ("kind!=cnn", ""),
        ("kind~CN", "fecba"),
        ("debug=false", "fecba"),
        ("loss<0.25", "d"),
        ("min(loss)<0.15", "d"),
        ("max(loss)>2", "cba"),
    ],
)
async def test_which(six: Registry, text: str, found: str) -> None:
    assert await letters(six, text) == found
    page = await six.page(parse_filter(text), now=NOW)
    assert page.total == (None if "state:" in text else len(found))


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("created", "abcdef"),
        ("-created", "fedcba"),
        ("name", "efdcba"),
        ("-accuracy", "bdcafe"),
        ("accuracy", "acdbfe"),
        ("lr", "cbdeaf"),
        ("-min(loss)", "cbadfe"),
        ("-step", "edcbaf"),
        ("kind", "fecbad"),
        ("-kind", "fecbad"),
        ("user", "fedcab"),
    ],
)
async def test_in_what_order(six: Registry, sort: str, order: str) -> None:
    assert await letters(six, sort=sort) == order


async def test_what_is_shown_beside(six: Registry) -> None:
    columns = ["lr", "accuracy", "kind", "min(loss)"]
    page = await six.page(columns=columns, now=NOW)
    shown = {run.id[-1]: tuple(run.values[column] for column in columns) for run in page.runs}
    assert shown["a"] == (0.1, 0.5, "cnn", 1.0)
    assert shown["d"] == (0.02, 0.8, None, 0.1)
    assert shown["f"] == (0.5, None, "cnn", None)


@pytest.mark.parametrize("text", ["", "state:completed,failed,planned"])
async def test_page_after_page_is_the_whole(six: Registry, text: str) -> None:
    found, more = "", True
    while more:
        page = await six.page(parse_filter(text), limit=4, offset=len(found), now=NOW)
        found += "".join(run.id[-1] for run in page.runs)
        more = page.more
    assert found == "fedcba"
    assert await letters(six, text, limit=None) == "fedcba"


async def test_a_state_is_found_however_far_down(registry: Registry, store: BlobStore) -> None:
    """More runs than are looked at together come first."""
    from crown_exp.registry.pages import LEAST

    await make_run(store, "r261121-failed", created=T0 - timedelta(days=1))
    folder = await make_run(store, "r261121-stoppd", created=T0 - timedelta(days=1))
    await folder.job(cancelled=True)
    for number in range(LEAST + 5):
        queued = await make_run(store, f"r261122-{number:06}", created=T0)
        await queued.job()
    for name in await store.folders("runs/"):
        await ingest_run(registry, store, name)
    page = await registry.page(Filter(states=frozenset({State.STOPPED})), now=NOW)
    assert [run.id for run in page.runs] == ["r261121-stoppd"]


async def test_a_metric_of_a_key_s_name_does_not_hide_the_key(
    registry: Registry, store: BlobStore
) -> None:
    from crown_exp.folder.segment import point

    made = await make_run(store, config=config(0.1))
    await made.log([[point(1, 1.0, {"lr": 0.0})]])
    await ingest_run(registry, store, made.id)
    page = await registry.page(parse_filter("lr>0.05"), columns=["lr", "last(lr)"])
    assert [dict(run.values) for run in page.runs] == [{"lr": 0.1, "last(lr)": 0.0}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "acuracy>0.5",
            "acuracy: no run has a result, metric or config key of this name; did you mean accuracy?",
        ),
        ("min(los)<1", "min(los): no run has a metric of this name; did you mean loss?"),
        ("min(lr)<1", "min(lr): no run has a metric of this name; known: loss"),
    ],
)
async def test_a_name_that_no_run_has_is_one_line(six: Registry, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await letters(six, text)
    assert str(caught.value) == said
    with pytest.raises(ConfigError):
        await six.page(sort="acuracy")
    with pytest.raises(ConfigError):
        await six.page(columns=["acuracy"])


async def test_without_any_run(registry: Registry) -> None:
    page = await registry.page()
    assert (page.runs, page.more, page.total) == ((), False, 0)
    with pytest.raises(ConfigError, match="there are no runs yet"):
        await registry.page(parse_filter("lr<1"))


def steps_of(plan: Sequence[Any]) -> str:
    return "\n".join(str(row[3]) for row in plan)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", "runs USING INDEX ix_runs_created_id"),
        ("age<5d", "runs USING INDEX ix_runs_created_id"),
        ("experiment:digits", "runs USING INDEX ix_runs_experiment_created_id"),
        ("user:ada", "runs USING INDEX ix_runs_user_created_id"),
        ("sweep:s-1", "runs USING INDEX ix_runs_sweep_id_sweep_number"),
        ("tag:paper", "tags USING COVERING INDEX ix_tags_tag_run_id"),
        ("optimizer.lr<0.05", "run_params USING COVERING INDEX ix_run_params_key_id_num_run_id"),
        ("model.kind=cnn", "run_params USING COVERING INDEX ix_run_params_key_id_text_run_id"),
        (
            "loss<0.25",
            "metric_summaries USING COVERING INDEX ix_metric_summaries_key_id_last_run_id",
        ),
        (
            "min(loss)<1",
            "metric_summaries USING COVERING INDEX ix_metric_summaries_key_id_min_run_id",
        ),
    ],
)
async def test_an_index_leads_to_the_page(six: Registry, text: str, index: str) -> None:
    from sqlalchemy import event

    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(six.database.reader.sync_engine, "before_cursor_execute", note)
    await six.page(parse_filter(text), now=NOW)
    ((page, parameters),) = [
        item for item in asked if "ORDER BY runs.created DESC" in item[0] and "LIMIT" in item[0]
    ]
    async with six.database.read() as connection:
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {page}", parameters)).all()
    assert index in steps_of(plan)
    if index.startswith("runs USING INDEX ix_runs_") and "sweep" not in index:
        assert "TEMP B-TREE" not in steps_of(plan)  # the index is in the page's order, too
