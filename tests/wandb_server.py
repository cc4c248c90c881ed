"""As much of a W&B server as its client needs for runs: a stand-in, since the real one is nobody's machine.

It keeps what the real client sends over HTTP: runs, rows of history by their offset, files.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "name": "uncategorized", "entity": {"id": "e", "name": "me"}}

VIEWER = {
    "id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "admin": False,
    "teams": {"edges": []},
}  # fmt: skip


@dataclass
class Kept:
    """A run there."""

    name: str
    shown: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None


@dataclass
class Server:
    """The URL, and what has arrived. asked: the operations, in order."""

    url: str = ""
    runs: dict[str, Kept] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def graphql(self, operation: str, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """What the client reads of an answer to a query."""
        self.asked.append(operation)
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "RunResumeStatus": self.resume_status,
            "UpsertBucket": self.upsert,
            "CreateRunFiles": self.create_files,
        }
        if operation in answers:
            return answers[operation](given)
        if operation in ("", "Viewer", "GetDefaultEntity"):
            return {"viewer": VIEWER}
        name = given.get("name") or given.get("runName") or given.get("run") or ""
        if name not in self.runs:
            return {}
        run = self.as_bucket(name) or {}
        if "spec" in given:
            run["sampledHistory"] = [self.sampled(name, json.loads(given["spec"]))]
        return {"project": PROJECT | {"run": run}}

    def sampled(self, name: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of a range of W&B's steps that have all of some keys, and only those."""
        return [
            {key: row[key] for key in spec["keys"]}
            for row in self.runs[name].history
            if spec["minStep"] <= row["_step"] <= spec["maxStep"]
            and row.keys() >= set(spec["keys"])
        ]

    def resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"model": PROJECT | {"bucket": self.as_bucket(given["name"])}}

    def upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Kept(given["name"]))
        run.shown |= {name: value for name, value in given.items() if value is not None}
        return {"upsertBucket": {"bucket": self.as_bucket(run.name), "inserted": new}}

    def create_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [
            {
                "name": name,
                "uploadUrl": f"{self.url}/put/{given['run']}/{number}/{name.encode().hex()}",
            }
            for number, name in enumerate(given["files"])
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def as_bucket(self, name: str) -> dict[str, Any] | None:
        """A run as GraphQL tells of it."""
        run = self.runs.get(name)
        if run is None:
            return None
        tail = json.dumps([json.dumps(run.history[-1])] if run.history else [])
        config = run.shown.get("config") or "{}"
        return {
            "id": f"id-{name}", "name": name, "displayName": run.shown.get("displayName") or name,
            "description": "", "config": config, "summaryMetrics": "{}", "sweepName": None,
            "project": PROJECT, "projectId": "1", "historyLineCount": len(run.history), "logLineCount": 0,
            "eventsLineCount": 0, "historyTail": tail, "eventsTail": "[]", "tags": [], "notes": "",
            "wandbConfig": json.dumps({"t": 1}), "state": "finished", "group": None,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00", "user": {"name": "me", "username": "me"}, "jobType": None,
            "commit": None, "readOnly": False, "historyKeys": {"lastStep": len(run.history) - 1, "keys": {}},
            "parquetHistory": {"parquetUrls": [], "liveData": run.history}, "systemMetrics": "{}",
            "sampledHistory": [], "history": [json.dumps(row) for row in run.history],
        }  # fmt: skip

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Rows of history, each at its offset: a row that is sent again is there once."""
        run = self.runs[name]
        part = sent.get("files", {}).get("wandb-history.jsonl")
        if part:
            offset = part["offset"]
            rows = [json.loads(line) for line in part["content"]]
            run.history[offset : offset + len(rows)] = rows
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def wandb_server() -> Iterator[Server]:
    """A server on a free port of this machine."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            data = json.dumps(self.answered(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer

        def answered(self, body: bytes) -> Any:
            if self.path == "/graphql":
                asked = json.loads(body)
                found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                operation = asked.get("operationName") or (found[1] if found else "")
                return {
                    "data": server.graphql(operation, asked["query"], asked.get("variables") or {})
                }
            if match := re.fullmatch(r"/files/.+/([^/]+)/file_stream", self.path):
                server.stream(match[1], json.loads(body))
            if match := re.fullmatch(r"/put/([^/]+)/\d+/(\w+)", self.path):
                server.runs[match[1]].files[bytes.fromhex(match[2]).decode()] = body
            return {}

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
