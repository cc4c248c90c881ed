"""S3 servers for tests, each a process of its own that ends with the process that started it.

    with Moto() as server, Proxy(server.url) as proxy: ...

A child reads its standard input, which ends when its starter does, even by `kill -9`. Ceph's
daemons, which do not, are watched by a shell that reads a pipe which all who use it hold open.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.s3.faults import Fault, Kind
from tests.s3.proxy import Operation

ROOT = Path(__file__).resolve().parents[2]
RADOSGW = ROOT / "dev/radosgw.sh"
KEY, SECRET, REGION = "test", "testtest", "us-east-1"
CEPH_BINARIES = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "curl")
CEPH_PACKAGES = "radosgw ceph-mon ceph-osd ceph-common curl"
END_S = 30


class Server(Protocol):
    """An S3 server. url: its endpoint."""

    url: str

    def access(self) -> dict[str, str]:
        """The variables by which it is reached, as `config.settings.store_access` gives them."""


def access(url: str) -> dict[str, str]:
    """The variables by which the S3 endpoint of a test server, or a proxy before it, is reached."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


class Child:
    """A Python module as a process that prints one line of JSON when it is ready."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=_clean_environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"{module} did not start: it ended with {self.process.returncode}")
        self.said: dict[str, Any] = json.loads(line)

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Served:
    """A server that is a child of this process: it ends with the `with` block."""

    _child: Child
    url: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.stop()

    def access(self) -> dict[str, str]:
        """See Server.access."""
        return access(self.url)


class Moto(Served):
    """moto's server: quick, and right in all that is conditional. It checks no signatures."""

    def __init__(self) -> None:
        self._child = Child("tests.s3.moto_child")
        self.url = f"http://127.0.0.1:{self._child.said['port']}"


class Proxy(Served):
    """The fault proxy (tests.s3.proxy) before a server, and what a test does with it.

    tls: the files of a certificate and its key, with which it speaks https.
    """

    def __init__(self, upstream: str, tls: tuple[Path, Path] | None = None) -> None:
        self._child = Child("tests.s3.proxy", upstream, *map(str, tls or ()))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._child.said['port']}"
        self._control = f"http://127.0.0.1:{self._child.said['control']}"

    def arm(self, *faults: Fault) -> None:
        """Let faults befall what comes from now on, beside those that are armed."""
        self._ask("PUT", "/faults", [vars(fault) for fault in faults])

    def arm_at(self, k: int, kind: Kind, **given: Any) -> None:
        """Let a fault befall the k-th request that matches from now on, and no other."""
        self.arm(Fault.at(k, kind, **given))

    def clear(self) -> None:
        """Disarm all faults, let go what hangs, forget what was seen."""
        self._ask("DELETE", "/faults")
        self._ask("DELETE", "/operations")

    @contextmanager
    def armed(self, *faults: Fault) -> Iterator[None]:
        """Faults for a block; afterwards all are disarmed."""
        self.arm(*faults)
        try:
            yield
        finally:
            self._ask("DELETE", "/faults")

    def fired(self) -> int:
        """How many requests the armed faults befell."""
        return sum(int(one["fired"]) for one in self._ask("GET", "/faults"))

    def operations(self, method: str = "", path: str = "") -> list[Operation]:
        """The requests since `clear` of this method and with this text in their path, in order."""
        kept = [Operation(**one) for one in self._ask("GET", "/operations")["operations"]]
        return [one for one in kept if one.method.startswith(method) and path in one.path]

    def count(self) -> int:
        """How many requests came since `clear`."""
        return int(self._ask("GET", "/operations")["seen"])

    def redirect(self, upstream: str) -> None:
        """Pass on to another server from now on."""
        self._ask("PUT", "/upstream", upstream)

    def _ask(self, method: str, path: str, given: object = None) -> Any:
        data = None if given is None else json.dumps(given).encode()
        request = urllib.request.Request(f"{self._control}{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.loads(reply.read())


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """A new certificate for a name or address that signs itself, and its key."""
    files = folder / "certificate.pem", folder / "key.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}",
         "-out", str(files[0]), "-keyout", str(files[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


class Ceph:
    """Ceph's S3 gateway with a monitor and an OSD, made anew: a server as it is used in earnest.

    url: one that was started by `make services-s3`. Else all processes of one run of pytest share one:
    the first starts it, and it ends when none is left that holds its pipe.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url
        self._holding: int | None = None
        if not url:
            self._join()

    def __enter__(self) -> Ceph:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._holding is not None:
            os.close(self._holding)
            self._holding = None

    def access(self) -> dict[str, str]:
        """See Server.access."""
        return access(self.url)

    @staticmethod
    def missing() -> str:
        """What to install to have it; empty if it is here."""
        absent = [name for name in CEPH_BINARIES if shutil.which(name) is None]
        if not absent:
            return ""
        return (
            f"no {absent[0]} here (Linux only): "
            f"apt-get install -y --no-install-recommends {CEPH_PACKAGES}"
        )

    def _join(self) -> None:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
        known = Path(tempfile.gettempdir()) / f"crown-ceph-{run}"
        with known.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            home = file.read()
            self._holding = _hold(Path(home)) if home else None
            if self._holding is None:
                home = tempfile.mkdtemp(prefix="crown-ceph-")
                self._holding = _start_ceph(Path(home), known)
                file.truncate(0)
                file.write(home)
        self.url = Path(home, "url").read_text()


def _hold(home: Path) -> int | None:
    """A hold on the Ceph in `home`, which runs as long as there is one; None if it runs no more."""
    try:
        return os.open(home / "holders", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _start_ceph(home: Path, known: Path) -> int:
    """Make one, and a shell that removes it when nobody holds it, whatever ended those who did.

    known: the file that tells those who come later where it is.
    """
    environment = _clean_environment() | {
        "CROWN_RGW_HOME": str(home), "CROWN_RGW_PORT": str(_free_port_pair()),
        "CROWN_RGW_KEY": KEY, "CROWN_RGW_SECRET": SECRET,
    }  # fmt: skip
    os.mkfifo(home / "holders")
    watch = (
        '(trap "" INT TERM; cat "$CROWN_RGW_HOME/holders"; '
        'bash "$0" destroy; rm -rf "$CROWN_RGW_HOME" "$1") &'
    )
    subprocess.run(  # a session of its own: Ctrl-C is not for it
        ["bash", "-c", watch, str(RADOSGW), str(known)],
        env=environment, start_new_session=True, check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while (holding := _hold(home)) is None:
        time.sleep(0.01)
    # Held while it starts, too, but not by the daemons.
    start = 'exec 9>"$CROWN_RGW_HOME/holders"; bash "$0" start 9>&-'
    started = subprocess.run(
        ["bash", "-c", start, str(RADOSGW)],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    if started.returncode:
        os.close(holding)
        raise RuntimeError(f"Ceph did not start: {started.stderr.strip()}")
    (home / "url").write_text(started.stdout.strip().splitlines()[-1])
    return holding


def _clean_environment() -> dict[str, str]:
    """This environment without what would reach a server by another way, or be another's key."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "CROWN_", "COV_")) and not name.lower().endswith("_proxy")
    }


def _free_port_pair() -> int:
    """A port P that is free, as is P + 1000, and that no connection is given before it is bound."""
    while True:
        port = random.randrange(20_000, 31_000)  # systems give connections ports from 32768 on
        try:
            for one in (port, port + 1000):
                socket.create_server(("127.0.0.1", one)).close()
        except OSError:
            continue
        return port
