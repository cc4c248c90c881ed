"""A metadata server of AWS, Google Cloud and Azure that stands in for theirs, and does as a test says.

    with MetadataServer() as server:
        server.give_notice("gcp", seconds=30)
        server.trouble = "hang"

It is as strict as theirs: without the header, the token or the version that they ask for, there is no answer.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MACHINE = "vm-7"

ACTION = "/latest/meta-data/spot/instance-action"
TROUBLES = ("404", "500", "garbage", "nothing", "slow", "drip", "hang", "cut", "refuse", "no HTTP")


class MetadataServer:
    """Programmable while it runs.

    trouble: what is wrong with every answer, of TROUBLES; "" if nothing. skew: how far its clock, and so the
    machine's, is wrong by its Date, which is sent if `dates`. asked: how often for which path.
    """

    def __init__(self) -> None:
        self.trouble, self.dates, self.skew = "", True, timedelta(0)
        self.asked: Counter[str] = Counter()
        self.documents: dict[
            str, str
        ] = {}  # path -> body, where something other than peace is said
        self.tokens: set[str] = set()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.http = Server(("127.0.0.1", 0), Handler)
        self.http.stand_in = self
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> MetadataServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def environment(self, cloud: str) -> dict[str, str]:
        """The variables that make a run ask here."""
        return {"CROWN_NOTICES__CLOUD": cloud, "CROWN_NOTICES__ENDPOINT": self.url}

    def give_notice(self, cloud: str, seconds: float = 30.0, **what: Any) -> None:
        """From now on the machine is about to be taken, in so many seconds."""
        end = datetime.now(UTC) + self.skew + timedelta(seconds=seconds)
        if cloud == "aws":
            moment = end.strftime("%Y-%m-%dT%H:%M:%SZ")
            body = {"action": "terminate", "time": moment} | what
            self.documents[ACTION] = json.dumps(body)
        elif cloud == "gcp":
            name, value = what.get("name", "preempted"), what.get("value", "TRUE")
            self.documents[f"/computeMetadata/v1/instance/{name}"] = value
        else:
            event = {
                "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5", "EventType": "Preempt",
                "ResourceType": "VirtualMachine", "Resources": [MACHINE], "EventStatus": "Scheduled",
                "NotBefore": format_datetime(end, usegmt=True), "EventSource": "Platform",
                "Description": "", "DurationInSeconds": -1,
            }  # fmt: skip
            document = {"DocumentIncarnation": 2, "Events": [event | what]}
            self.documents["/metadata/scheduledevents"] = json.dumps(document)

    def forget_tokens(self) -> None:
        """As if six hours had passed."""
        with self.lock:
            self.tokens.clear()

    # --- what it says -----------------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers: Any) -> tuple[int, str]:
        """Status and body."""
        parts = urlsplit(target)
        path, query = parts.path, parse_qs(parts.query)
        with self.lock:
            self.asked[path] += 1
            if path.startswith("/latest/"):
                return self.aws(method, path, headers)
            if path.startswith("/computeMetadata/v1/instance/"):
                return self.google(path, headers)
            return self.azure(path, query, headers)

    def aws(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        if path == "/latest/api/token":
            seconds = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if method != "PUT" or not seconds.isdecimal() or not 1 <= int(seconds) <= 21600:
                return 400, "Bad Request"
            token = f"AQAEA{len(self.tokens):03}{time.monotonic_ns():x}=="
            self.tokens.add(token)
            return 200, token
        if headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return 401, "Unauthorized"
        found = self.documents.get(path)
        return (404, "<html>404 - Not Found</html>") if found is None else (200, found)

    def google(self, path: str, headers: Any) -> tuple[int, str]:
        if headers.get("Metadata-Flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header."
        peace = {"preempted": "FALSE", "maintenance-event": "NONE"}.get(path.rpartition("/")[2], "")
        return 200, self.documents.get(path, peace)

    def azure(self, path: str, query: dict[str, list[str]], headers: Any) -> tuple[int, str]:
        if headers.get("Metadata") != "true" or not query.get("api-version"):
            return 400, '{"error": "Bad request. Required metadata header not specified"}'
        if path == "/metadata/instance/compute/name":
            return 200, MACHINE
        if path == "/metadata/scheduledevents":
            return 200, self.documents.get(path, '{"DocumentIncarnation":1,"Events":[]}')
        return 404, ""


class Server(ThreadingHTTPServer):
    """Without a word about who was cut off."""

    daemon_threads = True
    stand_in: MetadataServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.reply()

    def do_PUT(self) -> None:
        self.reply()

    def reply(self) -> None:
        stand_in = self.server.stand_in
        trouble = stand_in.trouble
        self.close_connection = True
        if trouble == "refuse":  # the connection is torn before a word
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        if trouble == "hang":
            stand_in.over.wait(30)
            return
        if trouble == "slow":
            stand_in.over.wait(3)
        status, body = stand_in.answer(self.command, self.path, self.headers)
        if trouble.isdecimal():
            status, body = int(trouble), "no"
        elif trouble in ("garbage", "nothing"):
            body = {"garbage": '<html>{"time": '}.get(trouble, "")
        data = body.encode()
        if trouble == "no HTTP":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        self.send_response_only(status)
        if stand_in.dates:
            self.send_header(
                "Date", format_datetime(datetime.now(UTC) + stand_in.skew, usegmt=True)
            )
        self.send_header("Content-Length", str(len(data) + (trouble == "cut")))
        self.end_headers()
        for piece in [data] if trouble != "drip" else [data[n : n + 1] for n in range(len(data))]:
            self.wfile.write(piece)
            if trouble == "drip" and stand_in.over.wait(0.5):
                return

    def log_message(self, *_: Any) -> None:
        pass
