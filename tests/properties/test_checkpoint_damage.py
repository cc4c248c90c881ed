"""No byte of a checkpoint can change and be loaded: the one before is used, or the run is refused."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.checkpoints import Keep, Saved
from crown_exp.clock import SystemClock
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage import Portal
from tests.checkpoint_states import (
    PATHS,
    attempt,
    contents,
    listed,
    memory_store,
    same,
    saved,
    store_of,
)


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def state(step: int) -> Any:
    torch.manual_seed(step)
    net = {"w": torch.randn(40, 30), "b": torch.randn(7), "on": torch.tensor([True, False])}
    frozen = torch.arange(3000, dtype=torch.float32)
    return {"net": net, "frozen": frozen, "rng": (step, [1, 2, float("nan")]), "note": "ü" * step}


class Stopped(SystemClock):
    """The same bytes in every process, for hypothesis."""

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def whole(portal: Portal) -> dict[str, bytes]:
    """The blobs of a run with checkpoints after steps 10, 20 and 30, that share a pack."""
    blobs = memory_store()
    checkpoints = attempt(portal, blobs, keep=Keep(last=9), clock=Stopped())
    for step in (10, 20, 30):
        now = state(step)
        outcome = saved(checkpoints, step, now, frozen={id(now["frozen"])})
        assert isinstance(outcome, Saved)
    found = contents(portal, blobs)
    assert len(found) == 3 + 3 + 1
    return found


@st.composite
def damaged(draw: st.DrawFn, blobs: dict[str, bytes]) -> dict[str, bytes]:
    """The blobs after one of them was changed, cut, emptied, taken for another, or lost."""
    path = draw(st.sampled_from(sorted(path for path, data in blobs.items() if data)))
    data = bytearray(blobs[path])
    place = draw(st.integers(0, len(data) - 1))
    match draw(st.sampled_from(["flip", "zeros", "cut", "longer", "empty", "other", "gone"])):
        case "flip":
            data[place] ^= 1 << draw(st.integers(0, 7))
        case "zeros":
            end = draw(st.integers(place + 1, len(data)))
            data[place:end] = bytes(end - place)
        case "cut":
            del data[place:]
        case "longer":
            data[place:place] = draw(st.binary(min_size=1, max_size=70))
        case "empty":
            data.clear()
        case "other":
            data[:] = blobs[draw(st.sampled_from(sorted(blobs)))]
        case "gone":
            return {name: kept for name, kept in blobs.items() if name != path}
    return {**blobs, path: bytes(data)}


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_what_is_damaged_is_never_loaded(
    portal: Portal, whole: dict[str, bytes], data: st.DataObject
) -> None:
    blobs = dict(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        if any(blobs.values()):
            blobs = data.draw(damaged(blobs))
    touched = {path for path in whole if blobs.get(path) != whole[path]}
    store = store_of(portal, blobs)
    usable = [step for step in (30, 20, 10) if not touched & set(parts_of(portal, whole, step))]
    manifests = [path for path in blobs if path.endswith(".json")]
    if usable:
        restored = attempt(portal, store, 2).restore()
        assert restored is not None and restored.step == usable[0]
        assert same(state(usable[0]), restored.state)
        newer = [path for path in manifests if int(path[-17:-5]) > usable[0]]
        assert len(restored.damaged) == len(newer)
        assert all("is damaged" in line and "\n" not in line for line in restored.damaged)
        again = attempt(portal, store, 3).restore()  # the damaged ones are marked
        assert again is not None and (again.step, again.damaged) == (usable[0], ())
    elif manifests:
        with pytest.raises(Damaged, match="none verifies"):
            attempt(portal, store, 2).restore()
        with pytest.raises(Damaged, match="all were found damaged before"):
            attempt(portal, store, 3).restore()
    else:
        assert attempt(portal, store, 2).restore() is None
    assert {path: blobs[path] for path in contents(portal, store) if path in blobs} == blobs


def parts_of(portal: Portal, blobs: dict[str, bytes], step: int) -> list[str]:
    """The paths of the blobs that a checkpoint is made of."""
    manifest = PATHS.checkpoint(1, step)
    return [
        manifest,
        *(path for path in blobs if path.rpartition("/")[2].encode() in blobs[manifest]),
    ]


def test_every_byte_of_a_manifest_counts(portal: Portal, whole: dict[str, bytes]) -> None:
    path = PATHS.checkpoint(1, 30)
    for place in range(len(whole[path])):
        data = bytearray(whole[path])
        data[place] ^= 1
        restored = attempt(portal, store_of(portal, {**whole, path: bytes(data)}), 2).restore()
        assert restored is not None and restored.step == 20, place


def test_after_damage_saving_goes_on(portal: Portal, whole: dict[str, bytes]) -> None:
    """A pack that lies there and is not what its name says is written over, not trusted."""
    shared = max(whole, key=lambda path: len(whole[path]) if "/packs/" in path else 0)
    store = store_of(portal, {**whole, shared: bytes(len(whole[shared]))})
    checkpoints = attempt(portal, store, 2)
    with pytest.raises(Damaged):
        checkpoints.restore()
    now = state(40)
    outcome = saved(checkpoints, 40, now, frozen={id(now["frozen"])})
    assert outcome.written == outcome.bytes
    assert portal.call(store.get, shared) == whole[shared]
    restored = attempt(portal, store, 3).restore()
    assert restored is not None and restored.step == 40 and same(now, restored.state)


def test_damaged_ones_do_not_count_and_go_when_enough_are_newer(
    portal: Portal, whole: dict[str, bytes]
) -> None:
    store = store_of(portal, {**whole, PATHS.checkpoint(1, 30): b"{}"})
    checkpoints = attempt(portal, store, 2, keep=Keep(last=2))
    checkpoints.restore()

    def steps() -> list[str]:
        saved(checkpoints, step, state(step))
        return [name for name in listed(portal, store) if name.startswith("checkpoints/")]

    step = 40
    assert steps() == [
        "checkpoints/000001-000000000020.json", "checkpoints/000001-000000000030.damaged",
        "checkpoints/000001-000000000030.json", "checkpoints/000002-000000000040.json",
    ]  # fmt: skip
    step = 50
    assert steps() == [f"checkpoints/000002-0000000000{n}.json" for n in (40, 50)]


def test_a_store_that_cannot_be_read_says_nothing_of_a_checkpoint(
    portal: Portal, whole: dict[str, bytes]
) -> None:
    from crown_exp.errors import StoreError

    class Away:
        def __init__(self, blobs: Any) -> None:
            self.blobs = blobs

        def __getattr__(self, name: str) -> Any:
            return getattr(self.blobs, name)

        async def get_into(
            self, path: str, buffer: memoryview, *, start: int | None = None
        ) -> None:
            raise StoreError("the store is away")

    store = store_of(portal, whole)
    with pytest.raises(StoreError, match="away"):
        attempt(portal, Away(store), 2).restore()  # type: ignore[arg-type]
    assert contents(portal, store) == whole


def test_a_bad_sector_costs_one_checkpoint_and_marks_none(
    portal: Portal, whole: dict[str, bytes]
) -> None:
    from crown_exp.errors import StoreError

    class Scratched:
        def __init__(self, blobs: Any) -> None:
            self.blobs, self.bad = blobs, 1

        def __getattr__(self, name: str) -> Any:
            return getattr(self.blobs, name)

        async def get_into(
            self, path: str, buffer: memoryview, *, start: int | None = None
        ) -> None:
            if self.bad:
                self.bad -= 1
                raise StoreError("cannot read it") from OSError(errno.EIO, "")
            await self.blobs.get_into(path, buffer, start=start)

    store = store_of(portal, whole)
    newest = attempt(portal, store, 2).restore()
    older = attempt(portal, Scratched(store), 2).restore()  # type: ignore[arg-type]
    assert newest is not None and older is not None
    assert older.step < newest.step
    assert older.damaged == (f"checkpoint {newest.name} is passed over: cannot read it",)
    assert contents(portal, store) == whole


def test_a_later_format_is_refused_and_left_alone(
    portal: Portal, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(portal, whole)
    with monkeypatch.context() as later:
        later.setattr("crown_exp.checkpoints.format.Manifest.format", 2)
        saved(attempt(portal, store, keep=Keep(last=9)), 40, state(40))
    before = contents(portal, store)
    with pytest.raises(NewerFormat, match="has format 2, this crown_exp reads up to 1") as raised:
        attempt(portal, store, 2).restore()
    assert raised.value.exit_code == 2
    saved(attempt(portal, store, 2, keep=Keep(last=1)), 50, state(50))
    assert {
        path: data for path, data in contents(portal, store).items() if path in before
    } == before
