"""As much of HTTP/1.1 as a proxy needs: heads, and bodies that pass through without being kept."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

PIECE = 256 * 1024
HEAD_LIMIT = 256 * 1024


class Closed(Exception):
    """The other side ended the connection."""


@dataclass
class Head:
    """The first line and the headers of a request or an answer."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """A header's value in small letters; empty if it has none."""
        return next((v.lower() for n, v in self.headers if n.lower() == name), "")

    @property
    def length(self) -> int | None:
        """Content-Length; None if it is not told."""
        told = self.get("content-length")
        return int(told) if told else None

    @property
    def chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding")

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    def without(self, names: set[str]) -> Head:
        return Head(self.first, [(n, v) for n, v in self.headers if n.lower() not in names])

    def encoded(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Wire:
    """A connection, with what was read of it too early."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._ahead = b""
        self._piece = bytearray(PIECE)
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes | memoryview) -> None:
        self.socket.sendall(data)

    def head(self) -> Head | None:
        """The next head; None if the other side ended the connection before it."""
        while b"\r\n\r\n" not in self._ahead:
            got = self.socket.recv(PIECE)
            if not got:
                if self._ahead:
                    raise Closed
                return None
            self._ahead += got
            if len(self._ahead) > HEAD_LIMIT:
                raise Closed
        text, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return Head(first, [(name, value.strip()) for name, _, value in pairs])

    def body(self, length: int | None, chunked: bool, to_the_end: bool) -> Iterator[memoryview]:
        """The pieces of a body, as they come, framing included. Each is gone when the next is asked for."""
        if chunked:
            yield from self._chunks()
        elif length is not None:
            yield from self._exactly(length)
        elif to_the_end:
            while piece := self._some(PIECE):
                yield piece

    def _some(self, at_most: int) -> memoryview:
        """What is there, at least a byte; empty at the end."""
        if self._ahead:
            got, self._ahead = self._ahead[:at_most], self._ahead[at_most:]
            return memoryview(got)
        view = memoryview(self._piece)
        return view[: self.socket.recv_into(view[: min(at_most, PIECE)])]

    def _exactly(self, length: int) -> Iterator[memoryview]:
        while length:
            piece = self._some(length)
            if not piece:
                raise Closed
            length -= len(piece)
            yield piece

    def _line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\r\n"):
            piece = self._some(1)
            if not piece:
                raise Closed
            line += piece
        return bytes(line)

    def _chunks(self) -> Iterator[memoryview]:
        while True:
            line = self._line()
            yield memoryview(line)
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            yield from self._exactly(size + 2)
        while (line := self._line()) != b"\r\n":
            yield memoryview(line)
        yield memoryview(line)

    def waits(self) -> bool:
        """Whether nothing came, the end neither: the connection can be used on."""
        return not self._ahead and not select.select([self.socket], [], [], 0)[0]

    def sit_until(self, released: threading.Event) -> None:
        """Answer nothing until the other side goes, or `released`."""
        while not released.is_set():
            if select.select([self.socket], [], [], 0.1)[0] and not self._some(PIECE):
                return

    def reset(self) -> None:
        """End the connection as a machine that dies does, without a goodbye."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self.socket.close()
