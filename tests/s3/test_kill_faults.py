"""SIGKILL when the k-th request of a writer, or of a remover, is under way: the next goes on, nothing is lost.

The request never arrives, arrives late, or was done and not answered. Processes are forked from one that has
imported all they need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from crown_exp.storage import Portal
from tests.s3.faults import Kind
from tests.s3.operations import halves, what_is_wrong
from tests.s3.servers import ROOT
from tests.s3.sweeps import World, world

KINDS: list[Kind] = ["delay", "hang", "hang_answer"]
"""The request arrives once the proxy lets it go, never, before."""

ZYGOTE = """
import json, os, signal, sys
import obstore, torch
from crown_exp.checkpoints import Keep, Saved
from crown_exp.checkpoints.pruning import plan_prune, prune
from crown_exp.storage import Portal, open_blobs
from tests.checkpoint_states import PATHS, attempt, begin, same
from tests.s3.operations import save, state
from tests.s3.sweeps import quick

def tell(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

def write(portal, blobs, number):
    begin(portal, blobs, number)
    checkpoints = attempt(portal, blobs, number, keep=Keep(last=2, every=50))
    restored = checkpoints.restore()
    if restored is not None:
        assert restored.damaged == () and same(state(restored.step), restored.state)
    step = restored.step if restored else 0
    tell("restored", step)
    while True:
        step += 1
        assert isinstance(outcome := save(checkpoints, step), Saved), outcome
        tell("saved", step)

def remove(portal, blobs, number):
    plan = portal.call(plan_prune, blobs, PATHS, Keep(last=1))
    portal.call(prune, blobs, PATHS, plan)

for line in sys.stdin:
    work, number, url, access = json.loads(line)
    child = os.fork()
    if not child:
        try:
            with Portal() as portal, quick():
                {"write": write, "remove": remove}[work](portal, open_blobs(url, access), number)
            tell("done")
        except BaseException as error:
            tell("failed", repr(error))
        finally:
            os._exit(0)
    sys.stdin.readline()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tell("ended")
"""


class Zygote:
    """Forks a process at a time, and kills it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.said: list[list[Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def tell(self, *words: Any) -> None:
        """Start a process; or, without words, kill it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def killed_when(self, fired: Any) -> list[list[Any]]:
        """What the process said until it was killed: when `fired()`, or when it was done."""
        until = time.monotonic() + 240  # the first waits for the imports
        while not fired() and not any(words[0] in ("done", "failed") for words in self.said):
            assert time.monotonic() < until, self.said
            time.sleep(0.005)
        self.tell()
        while not any(words[0] == "ended" for words in self.said):
            assert time.monotonic() < until, self.said
            time.sleep(0.005)
        said, self.said = self.said, []
        assert not any(words[0] == "failed" for words in said), said
        return said

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    running = Zygote()
    yield running
    running.stop()


@pytest.fixture(params=["", pytest.param("ceph_", marks=pytest.mark.full)], ids=["moto", "ceph"])
def fresh(request: pytest.FixtureRequest) -> Iterator[World]:
    """On moto, and on Ceph."""
    proxy, bucket = (
        request.getfixturevalue(f"{request.param}{what}") for what in ("proxy", "bucket")
    )
    with Portal() as portal, world(portal, proxy, bucket, deadline_s=60) as made:
        yield made


def kill_at(
    fresh: World, zygote: Zygote, k: int, kind: Kind, work: str, number: int
) -> list[list[Any]]:
    """What a process said that was killed while its k-th request was under way."""
    fresh.proxy.clear()
    fresh.proxy.arm_at(k, kind, seconds=600)
    access = fresh.bucket.behind(fresh.proxy).access | {"DEADLINE": "60"}
    zygote.tell(work, number, f"{fresh.bucket.url}/{fresh.prefix}", access)
    return zygote.killed_when(fresh.proxy.fired)


@pytest.mark.parametrize(
    "places", [range(1, 60, 6), pytest.param(range(1, 60), marks=pytest.mark.full)], ids=len
)
def test_a_writer_is_killed_at_every_request(fresh: World, zygote: Zygote, places: Any) -> None:
    """Each goes on from what the one before had been told is saved, or from one more."""
    safe = 0
    for number, k in enumerate(places, 1):
        for what, step in [
            words[:2]
            for words in kill_at(fresh, zygote, k, KINDS[(number + k) % 3], "write", number)
            if len(words) == 2
        ]:
            assert step in ((safe, safe + 1) if what == "restored" else (safe + 1,)), (
                k,
                what,
                step,
            )
            safe = step
    assert safe > len(places) / 2
    fresh.proxy.clear()
    assert what_is_wrong(fresh, safe, safe + 1) == ""
    zygote.tell("remove", 0, f"{fresh.bucket.url}/{fresh.prefix}", fresh.bucket.access)
    zygote.killed_when(lambda: False)
    assert what_is_wrong(fresh, safe, safe + 1) == "" and halves(fresh) == ""


@pytest.mark.parametrize("kind", ["hang", pytest.param("delay", marks=pytest.mark.full)])
def test_a_remover_is_killed_at_every_request(fresh: World, zygote: Zygote, kind: Kind) -> None:
    """At each in turn of one store, until it gets to its end; all that has a manifest is whole at each."""
    last = 0
    kill_at(fresh, zygote, 60, "hang", "write", 1)
    fresh.proxy.clear()
    for k in range(1, 40):
        said = kill_at(fresh, zygote, k, kind, "remove", 0)
        fresh.proxy.clear()
        assert halves(fresh) == ""
        if ["done"] in said:
            last = k
            break
    assert last, "it never ended"
    left = [key for key in fresh.bucket.keys(fresh.prefix) if "/checkpoints/" in key]
    assert len(left) == 1
