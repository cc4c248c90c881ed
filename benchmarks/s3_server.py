"""The one S3 server of a measurement: Ceph's gateway, started for it, or another that is told.

`AWS_ENDPOINT_URL`, with keys and region beside it, is a server that runs already: a bucket is made there, and
emptied at the end.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import CHECKOUT

SCRIPT = CHECKOUT / "dev" / "radosgw.sh"
BUCKET = "crown-bench"
GIB = "40"
"""Of the server's sparse disk: what is deleted is freed only after a while."""

PLAIN = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@dataclass(frozen=True)
class Server:
    """Where it answers, and who asks. name: what it is. pids: its processes, where they are known."""

    name: str
    endpoint: str
    region: str
    key: str
    secret: str
    pids: tuple[int, ...] = ()

    @property
    def access(self) -> dict[str, str]:
        """As AWS's variables, of which all clients know how to make use."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """A server with the bucket BUCKET. Raises RuntimeError if there is none to be had here."""
    with ExitStack() as end:
        server = told_of(os.environ) or end.enter_context(started(home))
        bucket = Bucket(server)
        bucket.make()
        try:
            yield server
        finally:
            bucket.remove()


def told_of(variables: Mapping[str, str]) -> Server | None:
    """The server that the environment names."""
    endpoint = variables.get("AWS_ENDPOINT_URL", "")
    if not endpoint:
        return None
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or "us-east-1"
    key, secret = (
        variables.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    return Server(f"the server at {endpoint}", endpoint, region, key, secret)


@contextmanager
def started(home: Path) -> Iterator[Server]:
    """Ceph's gateway, with one monitor and one disk of its own, in a folder of its own.

    A shell that reads from this process removes it all when that ends, however it does.
    """
    told = {"CROWN_RGW_HOME": str(home), "CROWN_RGW_GIB": GIB, "CROWN_RGW_PORT": str(free_ports())}
    begun = subprocess.run(
        ["bash", str(SCRIPT), "start"], env=os.environ | told, capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if begun.returncode:
        raise RuntimeError(f"Ceph did not start: {begun.stderr.strip()}")
    watch = subprocess.Popen(
        ["bash", "-c", 'trap "" INT TERM; cat >/dev/null; exec bash "$0" destroy', str(SCRIPT)],
        env=os.environ | told, stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        pids = tuple(int(path.read_text()) for path in home.glob("*.pid"))
        version = subprocess.run(["radosgw", "--version"], capture_output=True, text=True).stdout
        endpoint = begun.stdout.strip().splitlines()[-1]
        yield Server(
            f"Ceph RGW {version.split()[2]}", endpoint, "us-east-1", "test", "testtest", pids
        )
    finally:
        assert watch.stdin is not None
        watch.stdin.close()
        watch.wait()


def free_ports() -> int:
    """A port that is free, as is the one a thousand above, which the monitor takes."""
    for port in range(57600, 58400):
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1000))
            return port
    raise RuntimeError("no port is free for the S3 server")


class Bucket:
    """The bucket, as s3fs makes and removes it."""

    def __init__(self, server: Server) -> None:
        self.files: Any = s3fs_of(server.access)

    def make(self) -> None:
        """Have it, empty."""
        self.files.call_s3(
            "create_bucket", Bucket=BUCKET
        )  # mkdir tells a region, which Ceph refuses

    def remove(self) -> None:
        """With all that is in it."""
        self.empty("")
        with suppress(OSError):
            self.files.rmdir(BUCKET)

    def empty(self, prefix: str) -> None:
        """Remove what lies below a prefix."""
        self.files.invalidate_cache()
        with suppress(FileNotFoundError):
            self.files.rm(f"{BUCKET}/{prefix}".rstrip("/") if prefix else BUCKET, recursive=True)


def s3fs_of(access: Mapping[str, str]) -> Any:
    """A file system of s3fs, as its manual has it made."""
    import s3fs

    os.environ.update(PLAIN)
    return s3fs.S3FileSystem(
        key=access["AWS_ACCESS_KEY_ID"], secret=access["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=access["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": access["AWS_REGION"]},
    )  # fmt: skip


def obstore_of(access: Mapping[str, str]) -> Any:
    """A store of obstore over the bucket."""
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=access["AWS_ENDPOINT_URL"], region=access["AWS_REGION"],
        access_key_id=access["AWS_ACCESS_KEY_ID"], secret_access_key=access["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "600s"},
    )  # fmt: skip


def processes_of(server_pids: Iterable[int]) -> list[int]:
    """The threads of the server's processes, by their ids."""
    return [
        int(task.name)
        for pid in server_pids
        for task in Path(f"/proc/{pid}/task").glob("*")
        if task.name.isdigit()
    ]
