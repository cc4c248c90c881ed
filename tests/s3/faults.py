"""What can go wrong between a client and an S3 server, and for which requests: pure values.

    Fault("answer", method="PUT", path=r"packs/", first=3, last=3, status=503, code="SlowDown")

is the third PUT to a path with `packs/` in it, which is answered so and never reaches the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.sax.saxutils import escape

Kind = Literal[
    "delay",  # the request waits `seconds` before it goes on
    "throttle",  # both bodies go at `rate` bytes a second
    "strip",  # the server does not see the request's `headers`
    "corrupt",  # a bit of the answer's body, at `part` of its length, is turned round
    "answer",  # the client gets `status` with `code`; the server sees nothing
    "refuse",  # the connection is cut before the server sees anything
    "hang",  # no answer, ever; the server sees nothing
    "cut_request",  # the connection is cut after `part` of the request's body
    "cut_response",  # the connection is cut after `part` of the answer's body
    "drop_answer",  # the server has done it, the connection is cut instead of an answer
    "hang_answer",  # the server has done it, no answer, ever
]

MODIFIERS = frozenset({"delay", "throttle", "strip", "corrupt"})
"""Several of these can befall one request, together with one of the others, which end it."""

SLOW_DOWN: dict[str, Any] = {"kind": "answer", "status": 503, "code": "SlowDown"}
UNAVAILABLE: dict[str, Any] = {"kind": "answer", "status": 503, "code": "ServiceUnavailable"}
INTERNAL_ERROR: dict[str, Any] = {"kind": "answer", "status": 500, "code": "InternalError"}
PLAIN_404: dict[str, Any] = {"kind": "answer", "status": 404, "code": ""}
CONFLICT: dict[str, Any] = {
    "kind": "answer", "status": 409, "code": "ConditionalRequestConflict",
}  # fmt: skip
ACCESS_DENIED: dict[str, Any] = {"kind": "answer", "status": 403, "code": "AccessDenied"}
EXPIRED_TOKEN: dict[str, Any] = {"kind": "answer", "status": 400, "code": "ExpiredToken"}
QUOTA_EXCEEDED: dict[str, Any] = {"kind": "answer", "status": 403, "code": "QuotaExceeded"}


@dataclass(frozen=True)
class Fault:
    """What befalls which requests.

    method, path: regular expressions, the one for the whole method, the other searched in the path
    with its query, percent-decoded. Of the requests that match, counted from 1, the fault befalls
    `first`, then each `every`-th up to `last` (None: for ever).
    part: a share of a body, 0 to 1. A body whose length is not told beforehand is cut at its first piece.
    """

    kind: Kind
    method: str = ".*"
    path: str = ""
    first: int = 1
    last: int | None = None
    every: int = 1
    seconds: float = 1.0
    rate: int = 2**20
    part: float = 0.5
    status: int = 500
    code: str = "InternalError"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, k: int, kind: Kind, **given: Any) -> Fault:
        """At the k-th request that matches, and at no other."""
        return cls(kind, first=k, last=k, **given)

    def matches(self, method: str, path: str) -> bool:
        """Whether it counts the request."""
        return bool(re.fullmatch(self.method, method) and re.search(self.path, path))

    def befalls(self, count: int) -> bool:
        """Whether it befalls the request that matched as number `count`."""
        within = self.first <= count and (self.last is None or count <= self.last)
        return within and (count - self.first) % self.every == 0


@dataclass
class Armed:
    """A fault with how many requests it matched, and how many it befell."""

    fault: Fault
    matched: int = 0
    fired: int = 0


class Plan:
    """What befalls one request: modifiers, and at most one that ends it."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        ends = [fault for fault in self.faults if fault.kind not in MODIFIERS]
        self.end = ends[0] if ends else None

    def ends_with(self, *kinds: Kind) -> Fault | None:
        """The fault that ends the request, if it is of these kinds."""
        return self.end if self.end is not None and self.end.kind in kinds else None

    def modifier(self, kind: Kind) -> Fault | None:
        """The first modifier of a kind."""
        return next((fault for fault in self.faults if fault.kind == kind), None)


def plan(armed: Iterable[Armed], method: str, path: str) -> Plan:
    """Count a request, and say what befalls it."""
    befallen = []
    for one in armed:
        if one.fault.matches(method, path):
            one.matched += 1
            if one.fault.befalls(one.matched):
                one.fired += 1
                befallen.append(one.fault)
    return Plan(befallen)


def answer(fault: Fault, method: str, path: str, close: bool) -> bytes:
    """The HTTP answer of an `answer` fault, as S3 would word it; without a code, as a proxy before it would."""
    said = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(fault.code)}</Code>'
        f"<Message>A fault of the tests: {escape(fault.code)}</Message>"
        f"<Resource>{escape(path)}</Resource><RequestId>fault</RequestId></Error>"
    )
    body = (said if fault.code else f"<html>{fault.status}</html>").encode()
    lines = [
        f"HTTP/1.1 {fault.status} {fault.code}",
        "Content-Type: application/xml",
        f"Content-Length: {len(body)}",
        "x-amz-request-id: fault",
        *(f"{name}: {value}" for name, value in fault.headers.items()),
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else body)
