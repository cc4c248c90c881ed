"""Watches for the cloud's word that it is about to take the machine, in a thread, once a second.

A metadata server that is slow, silent or mad costs the run nothing, and one line at most.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crown_exp.config.settings import Notices
from crown_exp.runner.cloud_notices import (
    CLOUDS,
    FIRMWARE,
    Answer,
    Cloud,
    Nonsense,
    Question,
    cloud_of,
)
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking.run_log import to_stderr

ADDRESS = "http://169.254.169.254"
"""Of the metadata server of every cloud; reached without a proxy, whatever the environment says."""

FIRMWARE_AT = Path("/sys/class/dmi/id")
POLL_SECONDS = 1.0
REQUEST_SECONDS = 1.0
SILENT_SECONDS = 150.0
"""After so long without a good answer it is told. Azure's first answer may take two minutes."""
MOST_BYTES = 1 << 18


@contextmanager
def watched(
    stop: StopRequest, notices: Notices, say: Callable[[str], None] = to_stderr
) -> Iterator[None]:
    """Inside, a notice of the cloud stops the run. On a machine of no known cloud nothing is done at all."""
    name = cloud_of(firmware()) if notices.cloud == "auto" else notices.cloud
    if name is None or name not in CLOUDS:
        yield
        return
    watch = Watch(stop, CLOUDS[name](), MetadataServer(notices.endpoint or ADDRESS), say)
    watch.thread.start()
    try:
        yield
    finally:
        watch.close()


def firmware(place: Path = FIRMWARE_AT) -> dict[str, str]:
    """What this machine's firmware says of it; nothing where it is not shown."""
    found = {}
    for name in FIRMWARE:
        with suppress(OSError):
            found[name] = (place / name).read_text(errors="replace")
    return found


class Watch:
    """Asks until there is a notice, or until it is closed."""

    def __init__(
        self,
        stop: StopRequest,
        cloud: Cloud,
        server: MetadataServer,
        say: Callable[[str], None],
        *,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self.stop, self.cloud, self.server, self.say = stop, cloud, server, say
        self.silent_seconds, self.said = silent_seconds, False
        self.heard = time.monotonic()
        self.closed, self.lock = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self.run, name="crown-notices", daemon=True)

    def run(self) -> None:
        """The thread."""
        while not self.closed.is_set():
            began = time.monotonic()
            if self.asked():
                return
            self.closed.wait(max(0.0, began + POLL_SECONDS - time.monotonic()))

    def asked(self) -> bool:
        """Ask once; whether there was a notice, which is passed on."""
        try:
            notice = self.cloud.notice(self.server.ask, datetime.now(UTC))
        except (OSError, Nonsense) as error:
            self.complain(error)
            return False
        self.heard = time.monotonic()
        if notice is None:
            return False
        with self.lock:
            if not self.closed.is_set():
                self.stop.warn(notice)
        return True

    def complain(self, error: Exception) -> None:
        """Say once that no notice would be seen, if that has lasted."""
        if self.said or self.closed.is_set():
            return
        if time.monotonic() - self.heard < self.silent_seconds:
            return
        self.said = True
        why = str(error) or type(error).__name__
        self.say(
            f"the metadata server of {self.cloud.name} at {self.server.url}: {why}; if the machine is taken, "
            "the run learns it by SIGTERM only; CROWN_NOTICES__CLOUD=none if that is as it should be"
        )

    def close(self) -> None:
        """End the thread; nothing is passed on any more."""
        with self.lock:
            self.closed.set()
        self.server.hang_up()
        self.thread.join(REQUEST_SECONDS)


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
