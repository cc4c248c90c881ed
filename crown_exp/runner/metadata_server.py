"""A client of the clouds' metadata servers: a question, an answer, a second at most."""

from __future__ import annotations

import io
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

from crown_exp.runner.cloud_notices import Answer, Nonsense, Question

REQUEST_SECONDS = 1.0
MOST_BYTES = 1 << 18


class MetadataServer:
    """Puts questions over HTTP, one connection each, no proxy, no redirect, a second in all.

    url: `http://host[:port][/prefix]`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url, self.host, self.prefix = url, parts.hostname or "", parts.path.rstrip("/")
        self.port = parts.port or 80
        self.connection: socket.socket | None = None

    def ask(self, question: Question) -> Answer:
        """Raises OSError if there is no whole answer within a second, Nonsense if it is not HTTP."""
        deadline = time.monotonic() + REQUEST_SECONDS
        with socket.create_connection((self.host, self.port), REQUEST_SECONDS) as connection:
            self.connection = connection
            try:
                connection.sendall(self.request(question))
                return received(connection, deadline)
            finally:
                self.connection = None

    def request(self, question: Question) -> bytes:
        """A question as bytes."""
        lines = [
            f"{question.method} {self.prefix}{question.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Connection: close",
            "Accept: */*",
            *([] if question.method == "GET" else ["Content-Length: 0"]),
            *(f"{name}: {value}" for name, value in question.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def hang_up(self) -> None:
        """Wait for no answer any more."""
        connection = self.connection
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def received(connection: socket.socket, deadline: float) -> Answer:
    """The answer that comes in until then. Raises as `MetadataServer.ask`."""
    data, open_ = b"", True
    while open_:
        left = deadline - time.monotonic()
        if left <= 0 or len(data) > MOST_BYTES:
            raise TimeoutError("no whole answer in time")
        connection.settimeout(left)
        piece = connection.recv(65536)
        data, open_ = data + piece, bool(piece)
        if (answer := parsed(data, open_)) is not None:
            return answer
    raise ConnectionError("no whole answer")


def parsed(data: bytes, open_: bool) -> Answer | None:
    """An HTTP answer; None if it is not whole yet. open_: whether more may come."""
    if b"\r\n\r\n" not in data and b"\n\n" not in data:
        return None
    response = HTTPResponse(Received(data))  # type: ignore[arg-type]
    try:
        response.begin()
        if open_ and response.length is None and not response.chunked:
            return None  # it ends with the connection
        body = response.read()
    except IncompleteRead:
        return None
    except (HTTPException, ValueError) as error:
        raise Nonsense(f"does not answer in HTTP ({type(error).__name__})") from None
    return Answer(response.status, body.decode(errors="replace"), dated(response.getheader("Date")))


def dated(header: str | None) -> datetime | None:
    """The moment in a Date header, if it is one."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class Received(io.BytesIO):
    """Bytes that are read as a socket is."""

    def makefile(self, *_: Any) -> Received:
        """As a socket's."""
        return self
