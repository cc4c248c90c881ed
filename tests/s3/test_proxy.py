"""The fault proxy does what it is told, and nothing else."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.s3.buckets import Bucket, client
from tests.s3.faults import SLOW_DOWN, Armed, Fault, plan
from tests.s3.servers import ROOT, Ceph, Moto, Proxy, certificate

SIGNED = "AWS4-HMAC-SHA256 Credential=test/20261130/us-east-1/s3/aws4_request"
BODY = os.urandom(3_000_000)


def ask(
    endpoint: str, method: str, path: str, body: bytes = b"", timeout: float = 60.0
) -> tuple[int, bytes]:
    """One plain request; moto asks for a signature, but not whose."""
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers={"Authorization": SIGNED})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_passes_all_through(bucket: Bucket, proxy: Proxy) -> None:
    through = client(proxy.url)
    through.put_object(Bucket=bucket.name, Key="a b/ü", Body=BODY, IfNoneMatch="*")
    assert bucket.read("a b/ü") == BODY
    assert through.get_object(Bucket=bucket.name, Key="a b/ü")["Body"].read() == BODY
    with pytest.raises(through.exceptions.ClientError, match="PreconditionFailed"):
        through.put_object(Bucket=bucket.name, Key="a b/ü", Body=b"", IfNoneMatch="*")
    through.close()
    seen = proxy.operations()
    assert [(one.method, one.status, one.outcome) for one in seen] == [
        ("PUT", 200, "ok"), ("GET", 200, "ok"), ("PUT", 412, "ok"),
    ]  # fmt: skip
    assert seen[0].up == seen[1].down == len(BODY)
    assert seen[0].path == f"/{bucket.name}/a b/ü"


def test_answers_in_the_servers_stead(bucket: Bucket, proxy: Proxy) -> None:
    proxy.arm(Fault(**SLOW_DOWN, method="PUT", path="/a$", first=2, last=3))
    got = [ask(proxy.url, "PUT", f"/{bucket.name}/a", b"%d" % number) for number in range(4)]
    assert [status for status, _ in got] == [200, 503, 503, 200]
    assert b"<Code>SlowDown</Code>" in got[1][1]
    assert proxy.fired() == 2
    assert bucket.read("a") == b"3"


@pytest.mark.parametrize(
    ("kind", "there"),
    [("refuse", False), ("cut_request", False), ("hang", False),
     ("drop_answer", True), ("hang_answer", True)],
)  # fmt: skip
def test_ends_a_write(bucket: Bucket, proxy: Proxy, kind: str, there: bool) -> None:
    """Before or after the server did it."""
    proxy.arm_at(1, kind, method="PUT")  # type: ignore[arg-type]
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, proxy.url, "PUT", f"/{bucket.name}/a", BODY)
        until = time.monotonic() + 60
        while not any(one.status == 200 or not there for one in proxy.operations()):
            assert time.monotonic() < until
            time.sleep(0.01)
        if kind.startswith("hang"):
            assert not asking.done()
            proxy.clear()
        with pytest.raises((OSError, http.client.HTTPException)):
            asking.result(60)
    assert bucket.keys() == (["a"] if there else [])
    assert ask(proxy.url, "PUT", f"/{bucket.name}/a", b"again")[0] == 200
    assert bucket.read("a") == b"again"
    proxy.clear()


def test_cuts_an_answer(bucket: Bucket, proxy: Proxy) -> None:
    bucket.write("a", BODY)
    proxy.arm_at(1, "cut_response", method="GET", part=0.25)
    with pytest.raises((OSError, http.client.IncompleteRead)):
        ask(proxy.url, "GET", f"/{bucket.name}/a")
    assert ask(proxy.url, "GET", f"/{bucket.name}/a") == (200, BODY)


def test_turns_a_bit(bucket: Bucket, proxy: Proxy) -> None:
    bucket.write("a", BODY)
    proxy.arm_at(1, "corrupt", method="GET")
    _, got = ask(proxy.url, "GET", f"/{bucket.name}/a")
    assert sum(ours != theirs for ours, theirs in zip(BODY, got, strict=True)) == 1


def test_slows_down(bucket: Bucket, proxy: Proxy) -> None:
    bucket.write("a", BODY[:100_000])
    proxy.arm(Fault("throttle", rate=200_000), Fault("delay", seconds=0.2))
    begun = time.monotonic()
    assert ask(proxy.url, "GET", f"/{bucket.name}/a") == (200, BODY[:100_000])
    assert time.monotonic() - begun >= 0.6


def test_hides_a_header_from_the_server(bucket: Bucket, proxy: Proxy) -> None:
    through = client(proxy.url)
    proxy.arm(Fault("strip", headers={"If-None-Match": ""}))
    for data in (b"first", b"second"):
        through.put_object(Bucket=bucket.name, Key="a", Body=data, IfNoneMatch="*")
    through.close()
    assert bucket.read("a") == b"second"


def test_lets_go_what_hangs(bucket: Bucket, proxy: Proxy) -> None:
    with proxy.armed(Fault("hang")), socket.create_connection(_address(proxy), 60) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not proxy.fired():
            time.sleep(0.01)
    assert [one.outcome for one in proxy.operations()][-1:] in (["open"], ["hang"])
    assert ask(proxy.url, "GET", f"/{bucket.name}")[0] == 200


def _address(proxy: Proxy) -> tuple[str, int]:
    parts = urlsplit(proxy.url)
    return parts.hostname or "", parts.port or 0


def test_speaks_tls(moto: Moto, tmp_path: Path) -> None:
    files = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(files[0]))
    with Proxy(moto.url, tls=files) as proxy:
        connection = http.client.HTTPSConnection(*_address(proxy), context=trusting, timeout=60)
        with closing(connection):
            connection.request("GET", "/", headers={"Authorization": SIGNED})
            assert connection.getresponse().status == 200


def test_which_requests_a_fault_befalls() -> None:
    """From, to, each so many; each fault counts its own matches."""
    armed = [
        Armed(Fault("delay", method="PUT|GET", first=2, every=3, last=8)),
        Armed(Fault("hang", path="x")),
    ]
    befallen = [bool(plan(armed, "PUT", "/b").modifier("delay")) for _ in range(12)]
    assert [number for number, yes in enumerate(befallen, 1) if yes] == [2, 5, 8]
    assert plan(armed, "DELETE", "/b/x").end is armed[1].fault
    assert (armed[0].matched, armed[0].fired) == (12, 3)


def test_ends_with_whoever_started_it() -> None:
    """By kill -9 too."""
    urls = left_by_one_that_is_killed("server = Moto()\nproxy = Proxy(server.url)\n")
    assert len(urls) == 2
    for url in urls:
        assert stops_to_answer(url, seconds=60)


@pytest.mark.full
def test_ceph_ends_with_whoever_started_it() -> None:
    """By kill -9 too, and it leaves no files."""
    if missing := Ceph.missing():
        pytest.skip(missing)
    before = set(Path(tempfile.gettempdir()).glob("crown-ceph-*/ceph.conf"))
    (url, _) = left_by_one_that_is_killed("server = Ceph()\nproxy = server\n")
    assert stops_to_answer(url, seconds=60)
    until = time.monotonic() + 60
    while set(Path(tempfile.gettempdir()).glob("crown-ceph-*/ceph.conf")) - before:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.full
def test_signatures_stay_valid(ceph_bucket: Bucket, ceph_proxy: Proxy) -> None:
    """Ceph checks them, moto does not: of a big body, an odd name, a list, a copy; and of a liar."""
    through = client(ceph_proxy.url)
    name = ceph_bucket.name
    through.put_object(Bucket=name, Key="a b/ü+%", Body=BODY, IfNoneMatch="*")
    through.copy_object(Bucket=name, Key="c", CopySource={"Bucket": name, "Key": "a b/ü+%"})
    assert through.get_object(Bucket=name, Key="c")["Body"].read() == BODY
    listed = through.list_objects_v2(Bucket=name)["Contents"]
    assert [entry["Key"] for entry in listed] == ["a b/ü+%", "c"]
    through.close()
    liar = client(ceph_proxy.url, secret="wrong")
    with pytest.raises(liar.exceptions.ClientError, match="SignatureDoesNotMatch"):
        liar.put_object(Bucket=name, Key="d", Body=b"")
    liar.close()


def left_by_one_that_is_killed(starts: str) -> list[str]:
    """The URLs of what a process started that then killed itself."""
    code = (
        "import os, signal\nfrom tests.s3.servers import Ceph, Moto, Proxy\n"
        f"{starts}print(server.url, proxy.url, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTEST_XDIST_TESTRUNUID": ""}  # its Ceph is its own
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


def stops_to_answer(url: str, seconds: float) -> bool:
    """Whether nobody listens there any more, soon."""
    parts = urlsplit(url)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), 1).close()
        except OSError:
            return True
        time.sleep(0.02)
    return False
