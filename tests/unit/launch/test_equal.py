from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.launch.equal import equal_run
from crown_exp.registry import default_url, ingest_run, open_registry
from crown_exp.storage import Portal, open_blobs
from tests.unit.registry.folders import T0, complete_run, make_run

SAME = "v1:0123456789ab"


async def fill(url: str, store: str, *runs: tuple[Any, str, dict[str, Any]]) -> None:
    blobs = open_blobs(store)
    async with open_registry(url) as registry:
        for make, run_id, changes in runs:
            await make(blobs, run_id, **changes)
            await ingest_run(registry, blobs, run_id)


def filled(home: Path, *runs: tuple[Any, str, dict[str, Any]]) -> str:
    url = default_url(home)
    with Portal() as portal:
        portal.call(fill, url, str(home / "store"), *runs)
    return url


def test_the_newest_completed_run_is_found_before_one_that_goes_on(tmp_path: Path) -> None:
    later = T0 + timedelta(hours=1)
    url = filled(
        tmp_path,
        (complete_run, "r261122-aaaaaa", {}),
        (complete_run, "r261122-bbbbbb", {"created": later, "result": {"accuracy": 0.5, "n": 3}}),
        (complete_run, "r261122-cccccc", {"signature": "v1:other"}),
        (make_run, "r261122-dddddd", {"created": later + timedelta(hours=1)}),
        (make_run, "r261122-eeeeee", {"signature": "v1:new"}),
    )
    found = equal_run(url, SAME)
    assert found is not None
    assert (found.id, found.state, found.result) == (
        "r261122-bbbbbb",
        "completed",
        {"accuracy": 0.5, "n": 3},
    )
    assert str(found) == (
        "r261122-bbbbbb (completed, accuracy 0.5) has the same signature: crown-exp show bbbbbb"
    )
    other = equal_run(url, SAME, but="r261122-bbbbbb")
    assert other is not None and other.id == "r261122-aaaaaa"
    begun = equal_run(url, "v1:new")
    assert begun is not None and begun.state == "not ended"
    assert equal_run(url, "v1:new", but="r261122-eeeeee") is None
    assert equal_run(url, "v1:none") is None


@pytest.mark.parametrize("result", [1.0, 3, True, "1.0", [1.0], {"loss": 1.0}])
def test_any_result_is_read(tmp_path: Path, result: Any) -> None:
    url = filled(tmp_path, (complete_run, "r261122-aaaaaa", {"result": result}))
    found = equal_run(url, SAME)
    assert found is not None and found.result == result


def test_a_run_that_failed_is_no_answer(tmp_path: Path) -> None:
    async def failed(blobs: Any, run_id: str) -> None:
        run = await make_run(blobs, run_id)
        await run.attempt()
        await run.end(code=1)

    assert equal_run(filled(tmp_path, (failed, "r261122-aaaaaa", {})), SAME) is None


@pytest.mark.parametrize("state", ["absent", "foreign", "no database", "locked"])
def test_a_registry_that_cannot_be_asked_is_no_error(tmp_path: Path, state: str) -> None:
    path = tmp_path / "registry.db"
    if state == "absent":
        assert equal_run(default_url(tmp_path), SAME) is None
        assert not path.exists()
        return
    if state == "no database":
        path.write_bytes(b"x" * 5000)
        assert equal_run(default_url(tmp_path), SAME) is None
        return
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.commit()
    if state == "locked":
        connection.execute("BEGIN EXCLUSIVE")
    assert equal_run(default_url(tmp_path), SAME) is None
    connection.close()


def test_asking_imports_no_sqlalchemy() -> None:
    code = (
        "import sys\nfrom crown_exp.launch.equal import equal_run\n"
        "equal_run('sqlite+aiosqlite:////nowhere/x.db', 'v1:0')\n"
        "sys.exit(bool({'sqlalchemy', 'asyncio', 'anyio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
