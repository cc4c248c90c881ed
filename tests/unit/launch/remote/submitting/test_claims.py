"""Commands that record the same runs at once: one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from crown_exp.folder.paths import LAUNCHES, claim_path
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.submitting import claims, touching
from crown_exp.launch.remote.submitting.claims import claim_key, claimed, own_claim
from crown_exp.launch.remote.submitting.submission import submit_all
from crown_exp.launch.session import Session
from crown_exp.storage import BlobStore
from tests.launches import COMPUTE, Sharing, Told, order, planned


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.02)


def held(session: Session) -> list[str]:
    """The claims that there are."""
    return [entry.path for entry in session.portal.call(session.blobs.list, LAUNCHES)]


def put(session: Session, owner: bytes, number: int = 1) -> Path:
    """A claim that another made."""
    path = claim_path(claim_key(order()), number)
    session.portal.call(session.blobs.put, path, owner)
    found = session.blobs.local_path(path)
    assert found is not None
    return found


def test_two_commands_at_the_same_moment_make_one_run(session: Session, executor: Told) -> None:
    """Both have found nothing; both begin when the other does."""
    ready = threading.Barrier(4)
    done: list[Submitted] = []

    def launch() -> None:
        ready.wait(60)
        done.extend(submit_all(session, [planned(order())], prepared=Sharing(session)))

    threads = [threading.Thread(target=launch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert len({it.record.id for it in done}) == 1
    assert len(executor.asked) == 1
    assert held(session) == []


class Meanwhile:
    """A store in which something happens just before one method is called for the first time."""

    def __init__(
        self, inner: BlobStore, method: str, happens: Callable[[], Awaitable[None]]
    ) -> None:
        self.inner, self.method, self.happens = inner, method, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name != self.method:
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            self.method = ""
            await self.happens()
            return await found(*arguments, **options)

        return call


def test_one_is_given_up_and_another_made_while_we_look(session: Session) -> None:
    """We number ours after one that has gone by then, another numbers theirs anew: one of two stands."""
    key = claim_key(order())
    theirs = claim_path(key, 1)
    put(session, dead_claim())

    async def happens() -> None:
        await session.blobs.delete(theirs)
        await session.blobs.put(theirs, own_claim(), create=True)

    blobs: Any = Meanwhile(session.blobs, "put", happens)
    assert session.portal.call(claims.taken, blobs, key, own_claim()) is None
    assert held(session) == [theirs]


def test_it_is_held_inside_and_not_afterwards(session: Session) -> None:
    wide = [order(seed=seed) for seed in range(3)] + [order(compute=COMPUTE | {"name": "h100"})]
    with claimed(session, wide):
        assert len(held(session)) == 2  # one for each task and target
    assert held(session) == []
    with pytest.raises(ZeroDivisionError), claimed(session, wide):
        _ = 1 / 0
    assert held(session) == []
    with claimed(session, []):
        assert held(session) == []


def test_one_waits_for_the_other(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    order_of, waits = list[str](), threading.Event()

    def second() -> None:
        waits.set()
        with claimed(session, [order()]):
            order_of.append("second")

    with claimed(session, [order()]):
        thread = threading.Thread(target=second)
        thread.start()
        waits.wait(60)
        said = ""
        while "waiting until it has" not in said:
            said += capfd.readouterr().err
        order_of.append("first")
    thread.join()
    assert order_of == ["first", "second"]


def dead_claim() -> bytes:
    """That of a process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        told = json.loads(own_claim()) | {"pid": child.pid, "process_started": 1.0}
    return json.dumps(told).encode()


def test_that_of_a_process_here_that_has_died_is_nobodys(session: Session) -> None:
    put(session, dead_claim())
    with claimed(session, [order()]):
        assert held(session) == [claim_path(claim_key(order()), 2)]


@pytest.mark.parametrize("owner", ["elsewhere", "damaged"])
def test_that_of_another_machine_is_nobodys_when_it_is_old(session: Session, owner: str) -> None:
    told = json.dumps(json.loads(own_claim()) | {"boot_id": "elsewhere"}).encode()
    path = put(session, told if owner == "elsewhere" else b"?", 3)
    blob = claim_path(claim_key(order()), 3)
    assert session.portal.call(claims.stands, session.blobs, blob)
    then = path.stat().st_mtime - claims.STANDS_SECONDS - 1
    os.utime(path, (then, then))
    with claimed(session, [order()]):
        assert held(session) == [claim_path(claim_key(order()), 4)]
    assert held(session) == []


def test_that_of_who_is_at_work_for_long_stays_young(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "TOUCH_SECONDS", 0.02)
    with claimed(session, [order()]):
        (path,) = map(session.blobs.local_path, held(session))
        assert path is not None
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            threading.Event().wait(0.02)
