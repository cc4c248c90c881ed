"""What a run leaves turn by turn: its state and its points; and the first thing in which two runs differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from crown_exp.checkpoints.format import Manifest
from crown_exp.checkpoints.restore import look, read_manifest, read_packs
from crown_exp.checkpoints.skeleton import put_together
from crown_exp.checkpoints.tree import flatten, same_value, shown
from crown_exp.folder import Facts, RunPaths
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import read_facts
from crown_exp.tracking.replay import read_points

Leaves = Mapping[str, Any]
"""Leaves of a state by name: a plain value, or a Bytes for a tensor."""

PARTS = ("tracked", "gradients", "built", "loops", "place", "scaler", "random")
"""Of a state, what a user knows by name first."""

TOLD = 4
"""Things that are named of a step."""


class Bytes(str):
    """A tensor's form and the hash of its bytes."""

    @property
    def form(self) -> str:
        """`float32 of shape (3, 4)`."""
        return self.partition(" #")[0]


@dataclass(frozen=True)
class Trail:
    """What a run left. states: by step, of each attempt that saved it. points: by step, the values by name."""

    states: Mapping[int, Sequence[Leaves]]
    points: Mapping[int, Mapping[str, float]]
    facts: Facts

    @property
    def step(self) -> int:
        """The turns that the run came to."""
        return self.facts.result.step if self.facts.result else 0

    @property
    def result(self) -> Any:
        """What the task returned."""
        return self.facts.result.result if self.facts.result else None


@dataclass(frozen=True)
class Difference:
    """Where two runs part. step: after which, or in which. names: of what differs there. words: a line each."""

    step: int
    names: tuple[str, ...]
    words: tuple[str, ...]
    state: bool = True

    @property
    def line(self) -> str:
        """The first few, in one line."""
        more = len(self.words) - TOLD
        return "; ".join(self.words[:TOLD]) + (f"; and {more} more" if more > 0 else "")


async def read_trail(blobs: BlobStore, run_id: str) -> Trail:
    """All checkpoints, every byte verified, and the points that count. Raises Damaged, StoreError."""
    paths = RunPaths(run_id)
    states: dict[int, list[Leaves]] = {}
    for number in sorted((await look(blobs, paths)).usable):
        manifest, _ = await read_manifest(blobs, paths, number)
        states.setdefault(manifest.step, []).append(await read_leaves(blobs, paths, manifest))
    points: dict[int, dict[str, float]] = {}
    for point in (await read_points(blobs, run_id))[0]:
        values = points.setdefault(point.step, {})
        for name, value in point.values.items():
            values[again(name, values)] = value
    return Trail(states, points, await read_facts(blobs, run_id))


def again(name: str, known: Container[str]) -> str:
    """The name of a metric that was logged several times in a turn."""
    number, free = 1, name
    while free in known:
        number += 1
        free = f"{name} ({number})"
    return free


async def read_leaves(blobs: BlobStore, paths: RunPaths, manifest: Manifest) -> Leaves:
    """A checkpoint's leaves; its tensors as hashes, which is all that is kept of them."""
    stream = memoryview(bytearray(manifest.layout.bytes))
    await read_packs(blobs, paths, manifest, stream)
    hashes = [
        Bytes(f"{item.dtype} of shape {item.shape} #{digest_of(stream, item.offset, item.bytes)}")
        for item in manifest.tensors
    ]
    state = put_together(manifest.tree, hashes)
    found: dict[str, Any] = {}
    for part in PARTS:
        tree = state.get(part)
        name = "" if part == "tracked" else part
        found.update((readable(path), leaf) for path, leaf in flatten(tree, name).items() if path)
    return found


def digest_of(stream: memoryview, offset: int, size: int) -> str:
    """The sha256 of some of the bytes."""
    return sha256(stream[offset : offset + size]).hexdigest()


def readable(path: str) -> str:
    """A leaf's path as a user says it: `net.layers.0.weight`."""
    return path.replace("['", ".").replace("']", "").lstrip(".")


def is_ignored(name: str, ignore: Iterable[str]) -> bool:
    """Whether a metric or a leaf is one of these, lies below one, or fits a pattern with `*`."""
    return any(
        name == one
        or name.startswith((f"{one}.", f"{one}[", f"{one} "))
        or re.fullmatch(".*".join(map(re.escape, one.split("*"))), name)
        for one in ignore
    )


def difference(one: Trail, other: Trail, ignore: Collection[str] = ()) -> Difference | None:
    """The first step in which something differs, and what; None if nothing does, to the bit.

    one: the straight run. ignore: what does not count, as `is_ignored`.
    """
    for step in sorted({*one.points, *one.states, *other.points, *other.states}):
        logged = list(unlike_points(one.points.get(step, {}), other.points.get(step, {}), ignore))
        saved = list(unlike_states(one.states.get(step, ()), other.states.get(step, ()), ignore))
        if logged or saved:
            words = [f"{name} in step {step} {how}" for name, how in logged]
            words += [f"{name} after step {step} {how}" for name, how in saved]
            names = tuple(name for name, _ in [*logged, *saved])
            return Difference(step, names, tuple(words), bool(saved))
    if one.step != other.step:
        ends = f"the runs end after {one.step} and {other.step} steps"
        return Difference(min(one.step, other.step), (), (ends,))
    if not equal(one.result, other.result):
        how = f"the result was {shown(one.result)} and is {shown(other.result)}"
        return Difference(one.step, ("result",), (how,), False)
    return None


def unlike_points(
    one: Mapping[str, float], other: Mapping[str, float], ignore: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The metrics that differ, and how."""
    for name in dict.fromkeys([*one, *other]):
        if is_ignored(name, ignore):
            continue
        if name not in one or name not in other:
            yield (
                name,
                (
                    "is logged by the other run alone"
                    if name in other
                    else "is not logged by the other run"
                ),
            )
        elif float(one[name]).hex() != float(other[name]).hex():
            yield name, f"was {one[name]!r} and is {other[name]!r}"


def unlike_states(
    one: Sequence[Leaves], other: Sequence[Leaves], ignore: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The leaves that differ between a straight run's state and any that the other run saved then."""
    if not one:
        return
    for state in other:
        found = [it for it in unlike_leaves(one[0], state) if not is_ignored(it[0], ignore)]
        if found:
            yield from found
            return


def unlike_leaves(one: Leaves, other: Leaves) -> Iterator[tuple[str, str]]:
    """The leaves that differ, and how."""
    for name in dict.fromkeys([*one, *other]):
        if name not in one or name not in other:
            yield name, "was not there" if name in other else "is gone"
            continue
        was, now = one[name], other[name]
        if isinstance(was, Bytes) and isinstance(now, Bytes):
            if was != now:
                same = was.form == now.form
                yield name, "has other values" if same else f"was {was.form} and is {now.form}"
        elif isinstance(was, Bytes) or isinstance(now, Bytes) or not same_value(was, now):
            yield name, f"was {shown(was)} and is {shown(now)}"


def equal(one: Any, other: Any) -> bool:
    """Whether two results are the same, NaN included."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return same_value(one, other)
