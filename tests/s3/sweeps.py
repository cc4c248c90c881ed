"""One fault at the k-th request of an operation, for every k: what came of it, counted.

An `Operation` prepares a store without faults, acts through the proxy, and judges what the store holds
afterwards, read by another way and from the beginning. Used by the tests, and by
`dev/s3_fault_counts.py`, which prints all counts.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol
from unittest.mock import patch

from crown_exp.errors import CrownError
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.storage.through_fsspec import FsspecStore
from tests.s3.buckets import Bucket
from tests.s3.faults import CONFLICT, INTERNAL_ERROR, PLAIN_404, SLOW_DOWN, UNAVAILABLE, Fault
from tests.s3.servers import Proxy

DEADLINES_S = {"moto": 1.5, "ceph": 6.0}
"""Of calls that may get no answer, as short as a busy machine allows: past it an operation may fail."""

PATIENT_S = 60.0
"""Of all others, which have to be done however busy the machine is."""

FAULTS: dict[str, dict[str, Any]] = {
    "delay": {"kind": "delay", "seconds": 0.1},
    "throttle": {"kind": "throttle", "rate": 100_000},
    "cut request": {"kind": "cut_request"},
    "cut response": {"kind": "cut_response"},
    "refuse": {"kind": "refuse"},
    "corrupt": {"kind": "corrupt"},
    "500": INTERNAL_ERROR,
    "503": UNAVAILABLE,
    "SlowDown": SLOW_DOWN,
    "plain 404": PLAIN_404,
    "409": CONFLICT,
    "drop answer": {"kind": "drop_answer"},
    "hang": {"kind": "hang"},
    "hang answer": {"kind": "hang_answer"},
}
"""What befalls one request, by its name in a table."""

ALWAYS_SURVIVED = frozenset(FAULTS) - {"hang", "hang answer", "corrupt"}
"""Once, within a deadline, each of these is got over: the operation succeeds. (A turned bit may be told.)"""


@dataclass
class World:
    """A prefix of its own in a bucket: `through` is reached by the proxy, `direct` is not."""

    portal: Portal
    proxy: Proxy
    bucket: Bucket
    prefix: str
    through: BlobStore
    direct: BlobStore
    hurried_s: float
    kept: Any = None  # what an operation remembers between its parts

    def again(self) -> BlobStore:
        """As another process would open it, by the direct way."""
        return open_blobs(f"{self.bucket.url}/{self.prefix}", self.bucket.access)


class Operation(Protocol):
    """What is done to a store.

    before: makes what has to be there. act: does it, and raises CrownError if it cannot be done.
    judge: what is wrong with what is there now, done or not: `lost: …`, `wrong: …`, "" if nothing is.
    """

    name: str

    def before(self, world: World) -> None: ...

    def act(self, world: World) -> None: ...

    def judge(self, world: World, done: bool) -> str: ...


@dataclass
class Counts:
    """What came of a fault at several places. ended: how the operation itself ended, by kind of error."""

    cases: int = 0
    fired: int = 0
    safe: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    lines: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, ended: str, line: str, verdict: str) -> None:
        """One case. line: what the user was told, if it was not done."""
        self.cases += 1
        self.ended[ended] += 1
        if line:
            self.lines[where] = line
        if verdict:
            (self.lost if verdict.startswith("lost") else self.wrong).append(f"{where}: {verdict}")
        else:
            self.safe += 1


@contextmanager
def world(
    portal: Portal,
    proxy: Proxy,
    bucket: Bucket,
    *,
    by: str = "obstore",
    deadline_s: float = PATIENT_S,
    hurried_s: float = DEADLINES_S["moto"],
) -> Iterator[World]:
    """A fresh prefix. by: `obstore`, or `s3fs`. deadline_s: of calls; hurried_s: of those without an answer."""
    prefix = f"sweep-{secrets.token_hex(4)}"
    url = f"{bucket.url}/{prefix}"
    behind = bucket.behind(proxy).access | {"DEADLINE": str(deadline_s)}
    through = FsspecStore(url, behind) if by == "s3fs" else open_blobs(url, behind)
    direct = open_blobs(url, bucket.access)
    yield World(portal, proxy, bucket, prefix, through, direct, hurried_s)


@contextmanager
def hurried(blobs: Any, seconds: float) -> Iterator[None]:
    """Inside, calls of a store in S3 have a deadline that is so near."""
    by_fsspec = isinstance(blobs, FsspecStore)
    name = "_calls" if by_fsspec else "_deadline_s"
    near: Any = replace(blobs._calls, deadline_s=seconds) if by_fsspec else seconds
    with patch.object(blobs, name, near):
        yield


@contextmanager
def quick() -> Iterator[None]:
    """Short waits between tries, and every pack counts as old: what is removed an hour old goes at once."""
    with (
        patch("crown_exp.storage.calls.FIRST_WAIT_S", 0.02),
        patch("crown_exp.storage.calls.LEAST_TRY_S", 0.4),
        patch("crown_exp.checkpoints.retention.GRACE", timedelta(seconds=-1)),
        patch("crown_exp.checkpoints.pruning.GRACE", timedelta(seconds=-1)),
        patch("crown_exp.checkpoints.commit.GRACE", timedelta(seconds=-2)),
    ):
        yield


Worlds = Callable[[], Any]
"""Makes a fresh World, as a context."""


def requests_of(worlds: Worlds, operation: Operation) -> int:
    """How many requests an operation takes if nothing is wrong."""
    with worlds() as fresh:
        operation.before(fresh)
        fresh.proxy.clear()
        operation.act(fresh)
        count = int(fresh.proxy.count())
        assert operation.judge(fresh, True) == ""
        return count


def sweep(
    worlds: Worlds,
    operation: Operation,
    given: dict[str, Any],
    places: Iterable[int],
    *,
    length: int | None = 1,
) -> Counts:
    """The fault at each of the places, a fresh world each. length: requests in a row; None for ever."""
    counts = Counts()
    for k in places:
        last = None if length is None else k + length - 1
        with worlds() as fresh:
            one(fresh, operation, Fault(**given, first=k, last=last), counts)
    return counts


def one(fresh: World, operation: Operation, fault: Fault, counts: Counts) -> None:
    """One case."""
    operation.before(fresh)
    fresh.proxy.clear()
    fresh.proxy.arm(fault)
    ended, line = "done", ""
    answered = fault.last is not None and fault.kind not in ("hang", "hang_answer")
    try:
        with nullcontext() if answered else hurried(fresh.through, fresh.hurried_s):
            operation.act(fresh)
    except CrownError as error:
        ended, line = type(error).__name__, str(error)
    counts.fired += fresh.proxy.fired()
    fresh.proxy.clear()
    verdict = operation.judge(fresh, ended == "done")
    if not verdict and line and unclear(line):
        verdict = f"wrong: told {line!r}"
    counts.add(f"{operation.name}, {fault.kind} at {fault.first}", ended, line, verdict)


def unclear(line: str) -> bool:
    """Whether a line is none for people: several, of a traceback, of XML, of a library's insides."""
    return "\n" in line or any(
        sign in line
        for sign in ("Traceback", "<?xml", "Generic S3", "Debug source", "botocore", "test" * 2)
    )


def nothing_lost(counts: Counts) -> None:
    """None of its cases lost something, or told something that is not so."""
    assert counts.cases and counts.fired
    assert not counts.lost and not counts.wrong, (counts.lost, counts.wrong)
    assert counts.safe == counts.cases
