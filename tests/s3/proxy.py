"""A proxy between a client and an S3 server that lets faults happen. Runs as a process of its own.

    python -m tests.s3.proxy http://127.0.0.1:9000 [CERTIFICATE KEY]

It prints `{"port": …, "control": …}` and ends with its standard input. A thread serves each
connection; requests and answers pass through unchanged, the Host header too, which a signature
holds. The second port takes HTTP requests of tests (`tests.s3.servers.Proxy` makes them):

    PUT /faults [{"kind": "hang", …}, …]   DELETE /faults   GET /faults   GET /operations
    PUT /upstream "http://…"               DELETE /operations

With DELETE /faults all that hang are let go.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.s3.faults import Armed, Fault, Plan, answer, plan
from tests.s3.wire import Closed, Head, Wire

KEPT_OPERATIONS = 200_000
CONNECT_S = 10.0


@dataclass
class Operation:
    """A request that was seen. outcome: `ok`, the kind of fault that ended it, or what broke.

    status: what the server answered, None if it was not asked or said nothing.
    up, down: bytes of the bodies that were passed on.
    """

    number: int
    method: str
    path: str
    status: int | None = None
    outcome: str = "open"
    up: int = 0
    down: int = 0
    faults: list[str] = field(default_factory=list)


class Rules:
    """The faults that are armed and what was seen: what all connections share."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.lock = threading.Lock()
        self.armed: list[Armed] = []
        self.released = threading.Event()
        self.operations: deque[Operation] = deque(maxlen=KEPT_OPERATIONS)
        self.seen = 0

    def arm(self, faults: list[Fault]) -> None:
        """Add faults to those that are armed."""
        with self.lock:
            self.armed += [Armed(fault) for fault in faults]

    def clear(self) -> None:
        """Disarm all; let go what hangs."""
        with self.lock:
            self.armed = []
            self.released.set()
            self.released = threading.Event()

    def forget(self) -> None:
        """Forget what was seen."""
        with self.lock:
            self.operations.clear()
            self.seen = 0

    def note(self, method: str, target: str) -> tuple[Operation, Plan, threading.Event]:
        """A request came: its record, what befalls it, and the event that lets it go if it hangs."""
        path = unquote(target)
        with self.lock:
            self.seen += 1
            befalls = plan(self.armed, method, path)
            operation = Operation(self.seen, method, path)
            operation.faults = [fault.kind for fault in befalls.faults]
            self.operations.append(operation)
            return operation, befalls, self.released

    def told(self) -> list[dict[str, object]]:
        """The armed faults with their counts."""
        with self.lock:
            return [asdict(one) for one in self.armed]


class Ended(Exception):
    """The connection is over for this reason."""


class Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, client: Wire, rules: Rules) -> None:
        self.client = client
        self.rules = rules
        self.server: Wire | None = None

    def serve(self) -> None:
        """Request after request, until one side ends it or a fault does."""
        try:
            while (head := self.client.head()) is not None:
                method, target, _ = head.first.split(" ", 2)
                operation, befalls, released = self.rules.note(method, target)
                try:
                    again = Exchange(self, head, operation, befalls, released).run()
                except Ended:
                    return
                except (OSError, Closed, ValueError) as error:
                    operation.outcome = f"broken: {type(error).__name__}"
                    self.client.reset()
                    return
                if not again:
                    return
        except (OSError, Closed, ValueError):
            pass
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        self.client.close()
        self.leave()

    def leave(self, rudely: bool = False) -> None:
        """End the connection to the server."""
        if self.server is not None:
            self.server.reset() if rudely else self.server.close()
            self.server = None

    def reach(self) -> Wire:
        """The connection to the server, made anew where it has none that can be used on."""
        if self.server is not None and not self.server.waits():
            self.leave()
        if self.server is None:
            parts = urlsplit(self.rules.upstream)
            made = socket.create_connection((parts.hostname, parts.port), CONNECT_S)
            made.settimeout(None)
            self.server = Wire(made)
        return self.server


@dataclass
class Exchange:
    """One request and its answer."""

    connection: Connection
    request: Head
    operation: Operation
    befalls: Plan
    released: threading.Event

    def run(self) -> bool:
        """Whether the client's connection can be used on. Raises Ended if a fault ended it."""
        if delay := self.befalls.modifier("delay"):
            self.released.wait(delay.seconds)
        if self.befalls.ends_with("refuse"):
            self._cut("refuse")
        if fault := self.befalls.ends_with("answer"):
            return self._answer(fault)
        if self.befalls.ends_with("hang"):
            self._hang("hang")
        return self._pass_on()

    def _answer(self, fault: Fault) -> bool:
        """Answer in the server's stead, once the body is here, unless the client waits to send it."""
        waits = "100-continue" in self.request.get("expect")
        if not waits:
            for _ in self._request_body():
                pass
        reply = answer(fault, self.operation.method, self.operation.path, close=waits)
        self.operation.outcome = "answer"
        self.connection.client.send(reply)
        return not waits

    def _pass_on(self) -> bool:
        client, server = self.connection.client, self.connection.reach()
        strip = self.befalls.modifier("strip")
        names = {name.lower() for name in strip.headers} if strip else set()
        server.send(self.request.without(names).encoded())
        reply = self._early(server) if "100-continue" in self.request.get("expect") else None
        early = reply is not None
        if reply is None:
            early = not self._send_body(server)
            reply = _final_head(server)
        if reply is None:
            self.connection.leave()
            self._cut("broken: the server said nothing")
        assert reply is not None
        self.operation.status = reply.status
        self._send_answer(client, server, reply)
        lasts = "close" not in reply.get("connection") and reply.first.startswith("HTTP/1.1")
        return lasts and not early and "close" not in self.request.get("connection")

    def _early(self, server: Wire) -> Head | None:
        """The server's answer to a client that waits to send its body; None if it is to send it."""
        reply = server.head()
        if reply is not None and reply.status == 100:
            self.connection.client.send(reply.encoded())
            return None
        if reply is None:
            raise Closed
        return reply

    def _request_body(self) -> Iterator[memoryview]:
        request = self.request
        return self.connection.client.body(request.length, request.chunked, to_the_end=False)

    def _send_body(self, server: Wire) -> bool:
        """Pass the request's body on. False if the server would not have all of it."""
        cut = self.befalls.ends_with("cut_request")
        stop = int((self.request.length or 0) * cut.part) if cut else None
        for piece in self._paced(self._request_body()):
            if stop is not None and self.operation.up + len(piece) >= stop:
                server.send(piece[: max(0, stop - self.operation.up)])
                self.operation.up = stop
                break
            try:
                server.send(piece)
            except OSError:  # it answered without reading on, and closed
                return False
            self.operation.up += len(piece)
        if cut:
            self.connection.leave(rudely=True)
            self._cut("cut_request")
        return True

    def _send_answer(self, client: Wire, server: Wire, reply: Head) -> None:
        dropped = self.befalls.ends_with("drop_answer", "hang_answer")
        bodyless = self.operation.method == "HEAD" or reply.status in (204, 304)
        length = 0 if bodyless else reply.length
        body = server.body(length, reply.chunked and not bodyless, to_the_end=True)
        if dropped:
            for _ in body:
                pass
            self._hang("hang_answer") if dropped.kind == "hang_answer" else self._cut("drop_answer")
        # Told before the client has it all: it may ask at once what was seen.
        self.operation.outcome = "ok"
        client.send(reply.encoded())
        cut, corrupt = self.befalls.ends_with("cut_response"), self.befalls.modifier("corrupt")
        stop = int((length or 0) * cut.part) if cut else None
        turn = int(max(0, (length or 0) - 1) * corrupt.part) if corrupt else None
        for piece in self._paced(body):
            if turn is not None and self.operation.down <= turn < self.operation.down + len(piece):
                piece = _turned(piece, turn - self.operation.down)
            if stop is not None and self.operation.down + len(piece) >= stop:
                client.send(piece[: max(0, stop - self.operation.down)])
                break
            self.operation.down += len(piece)
            client.send(piece)
        if cut:
            self._cut("cut_response")

    def _paced(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        """The pieces, smaller and with pauses if they are to go slowly."""
        slow = self.befalls.modifier("throttle")
        if slow is None:
            yield from pieces
            return
        step = max(1, slow.rate // 20)
        for piece in pieces:
            for start in range(0, len(piece), step):
                part = piece[start : start + step]
                time.sleep(len(part) / slow.rate)
                yield part

    def _cut(self, why: str) -> None:
        self.operation.outcome = why
        self.connection.client.reset()
        raise Ended(why)

    def _hang(self, why: str) -> None:
        self.connection.client.sit_until(self.released)
        self._cut(why)


def _final_head(server: Wire) -> Head | None:
    """The head of the answer: past `100 Continue`, which moto says twice."""
    while (head := server.head()) is not None and head.status < 200:
        pass
    return head


def _turned(piece: memoryview, at: int) -> memoryview:
    changed = bytearray(piece)
    changed[at] ^= 1
    return memoryview(changed)


class Control(BaseHTTPRequestHandler):
    """The requests of tests."""

    rules: Rules

    def do_GET(self) -> None:
        told = self.rules.told() if self.path == "/faults" else self._operations()
        self._say(told)

    def do_PUT(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/faults":
            self.rules.arm([Fault(**one) for one in given])
        else:
            self.rules.upstream = given
        self._say(None)

    def do_DELETE(self) -> None:
        self.rules.clear() if self.path == "/faults" else self.rules.forget()
        self._say(None)

    def _operations(self) -> dict[str, object]:
        with self.rules.lock:
            kept = [asdict(one) for one in self.rules.operations]
            return {"seen": self.rules.seen, "operations": kept}

    def _say(self, what: object) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def listen(rules: Rules, tls: tuple[str, str] | None) -> int:
    """Serve clients in the background; the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)

    def serve(client: socket.socket) -> None:
        with suppress(OSError):
            wrapped = context.wrap_socket(client, server_side=True) if context else client
            Connection(Wire(wrapped), rules).serve()

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main(upstream: str, *tls: str) -> None:
    """Serve until the standard input ends."""
    rules = Rules(upstream)
    control = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Control,), {"rules": rules}))
    control.daemon_threads = True
    threading.Thread(target=control.serve_forever, daemon=True).start()
    port = listen(rules, (tls[0], tls[1]) if tls else None)
    print(json.dumps({"port": port, "control": control.server_port}), flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
