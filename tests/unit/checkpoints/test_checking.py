"""Checkpoints are read, whatever the network does, and called damaged only if they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from crown_exp.checkpoints import Keep
from crown_exp.checkpoints.checking import checked, chosen, numbers_of
from crown_exp.errors import ConfigError, StoreError
from crown_exp.storage import Portal
from crown_exp.storage.base import WrongSize
from crown_exp.storage.memory import MemoryStore
from tests.checkpoint_states import PATHS, attempt, contents, memory_store, same, saved

PIECE = 1000


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a state of kilobytes has several packs, of several pieces."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 4096)
    monkeypatch.setattr("crown_exp.checkpoints.streaming.PIECE", PIECE)
    monkeypatch.setattr("crown_exp.checkpoints.streaming.LEAST_PIECE", PIECE)


@pytest.fixture
def blobs(portal: Portal) -> MemoryStore:
    """A run with checkpoints after steps 1 and 2."""
    store = memory_store()
    checkpoints = attempt(portal, store, keep=Keep(last=9))
    for step in (1, 2):
        saved(checkpoints, step, state(step))
    return store


def state(step: int) -> Any:
    return {"w": torch.arange(2500.0) * step}


class Network:
    """A store whose answers to ranged reads are spoilt at the `at`-th, `times` times."""

    def __init__(self, blobs: Any, at: int, how: str, times: int = 1) -> None:
        self.blobs, self.how = blobs, how
        self.wrong = range(at, at + times)
        self.reads = 0
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        self.reads += 1
        self.most = max(self.most, len(buffer))
        bad = self.reads in self.wrong
        if bad and self.how == "cut":
            raise WrongSize(f"{path} has 7 bytes")
        if bad and self.how == "away":
            raise StoreError("the store is away")
        await self.blobs.get_into(path, buffer, start=start)
        if bad and self.how == "flipped":
            buffer[3] ^= 1


def test_a_verdict_changes_nothing_and_holds_little(portal: Portal, blobs: MemoryStore) -> None:
    before, told = contents(portal, blobs), list[Any]()
    network: Any = Network(blobs, 0, "")
    for number in portal.call(numbers_of, blobs, PATHS):
        verdict = portal.call(checked, network, PATHS, number, lambda *args: told.append(args))
        assert verdict.whole and not verdict.removed and verdict.bytes == 10048
        assert (verdict.attempt, verdict.step) == number and told[-1] == ("verifying", 10048, 10048)
    assert network.most == PIECE
    assert contents(portal, blobs) == before


@pytest.mark.parametrize("at", range(1, 12))
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_what_the_network_spoils_once_is_read_again(
    portal: Portal, blobs: MemoryStore, how: str, at: int
) -> None:
    before, told = contents(portal, blobs), list[Any]()
    network: Any = Network(blobs, at, how)
    restored = attempt(portal, network, 2, progress=lambda *args: told.append(args)).restore()
    assert restored is not None and (restored.step, restored.damaged) == (2, ())
    assert same(state(2), restored.state)
    assert told[-1] == ("restoring", 10048, 10048)
    assert portal.call(checked, Network(blobs, at, how), PATHS, (1, 2)).whole
    assert contents(portal, blobs) == before


def test_a_store_that_cuts_every_answer_says_nothing_of_a_checkpoint(
    portal: Portal, blobs: MemoryStore
) -> None:
    before = contents(portal, blobs)
    with pytest.raises(StoreError, match="cut short; try again"):
        attempt(portal, Network(blobs, 1, "cut", 999), 2).restore()  # type: ignore[arg-type]
    assert contents(portal, blobs) == before


@pytest.mark.parametrize("at", range(1, 12))
def test_a_store_that_is_away_says_nothing_of_a_checkpoint(
    portal: Portal, blobs: MemoryStore, at: int
) -> None:
    before = contents(portal, blobs)
    for work in (
        lambda: attempt(portal, Network(blobs, at, "away"), 2).restore(),  # type: ignore[arg-type]
        lambda: portal.call(checked, Network(blobs, at, "away"), PATHS, (1, 2)),
    ):
        with pytest.raises(StoreError, match=r"^the store is away$"):
            work()
    assert contents(portal, blobs) == before


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "has 0 bytes, not"),
        (bytes(4096), "does not hold the bytes"),
        (bytes(5000), "has 5000"),
        (None, "is gone"),
    ],
)
def test_damage_is_named(portal: Portal, blobs: MemoryStore, data: bytes | None, why: str) -> None:
    mine = portal.call(blobs.get, PATHS.checkpoint(1, 2))
    other = portal.call(blobs.get, PATHS.checkpoint(1, 1))
    packs = [entry for entry in portal.call(blobs.list, PATHS.packs) if entry.size == 4096]
    pack = next(it.path for it in packs if it.path[-64:].encode() in mine)
    assert pack[-64:].encode() not in other
    portal.call(blobs.delete, pack)
    if data is not None:
        portal.call(blobs.put, pack, data)
    verdict = portal.call(checked, blobs, PATHS, (1, 2))
    assert not verdict.whole and pack in verdict.why and why in verdict.why
    assert not verdict.removed and portal.call(checked, blobs, PATHS, (1, 1)).whole


def test_one_that_went_meanwhile(portal: Portal, blobs: MemoryStore) -> None:
    verdict = portal.call(checked, blobs, PATHS, (1, 7))
    assert verdict.removed and not verdict.whole and verdict.bytes == 0


def test_the_one_that_was_asked_for(portal: Portal, blobs: MemoryStore) -> None:
    assert portal.call(chosen, blobs, PATHS, None) == (1, 2)
    assert portal.call(chosen, blobs, PATHS, 1) == (1, 1)
    with pytest.raises(ConfigError, match=r"@7: no checkpoint of this step; there are 1, 2$"):
        portal.call(chosen, blobs, PATHS, 7)
    portal.call(blobs.put, PATHS.damaged(1, 2), b"")
    assert portal.call(chosen, blobs, PATHS, None) == (1, 1)
    assert portal.call(numbers_of, blobs, PATHS) == [(1, 2), (1, 1)]
