"""What is set wrong about a store, at the words: one line with what to set, and nothing half-written."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.running import Project
from tests.s3.buckets import Bucket
from tests.s3.faults import ACCESS_DENIED, EXPIRED_TOKEN, QUOTA_EXCEEDED, Fault
from tests.s3.servers import Proxy

TASKS = (
    "def train(run):\n    for turn in run.steps(2):\n        run.log(turn=turn)\n    return 42\n"
)
IMPATIENT = {"CROWN_STORAGE__DEADLINE": "2"}
"""For what is tried again until the deadline; all else is waited for, however busy the machine is."""


@pytest.fixture
def project(tmp_path: Path, bucket: Bucket, proxy: Proxy) -> Project:
    """Its store is a bucket behind the proxy."""
    made = Project.write(tmp_path / "project", TASKS)
    made.environment = bucket.behind(proxy).environment() | {"HOME": str(tmp_path / "home")}
    return made


def told(project: Project, code: int, **environment: str) -> str:
    """The one line that a run ends with at its start."""
    done = project.crown("task=train", env=environment)
    assert done.returncode == code, done.stdout
    (line,) = done.stdout.splitlines()
    assert "Traceback" not in line and "<" not in line.replace("<run>", ""), line
    assert "testtest" not in line
    return line


@dataclass(frozen=True)
class Wrong:
    """What the proxy answers, and what the line must say. code: of the exit."""

    said: tuple[str, ...]
    code: int = 2
    fault: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def region(code: str, status: int, **headers: str) -> dict[str, object]:
    return {"kind": "answer", "status": status, "code": code, "headers": headers}


CASES = {
    "no bucket": Wrong(
        ("there is no bucket crown-nobody-made", "aws --endpoint-url", "s3 mb s3://crown-nobody-made"),
        environment={"CROWN_STORAGE__ROOT": "s3://crown-nobody-made/store"},
    ),
    "read denied": Wrong(("may not read", "s3:GetObject"), fault=ACCESS_DENIED | {"method": "GET"}),
    "list denied": Wrong(
        ("may not list", "s3:ListBucket"), fault=ACCESS_DENIED | {"path": "list-type"}
    ),
    "write denied": Wrong(("may not write", "s3:PutObject"), fault=ACCESS_DENIED | {"method": "PUT"}),
    "expired": Wrong(("the credentials have expired", "renew them"), fault=EXPIRED_TOKEN),
    "unknown key": Wrong(
        ("does not know the access key id", "CROWN_STORAGE__ACCESS_KEY_ID"),
        fault={"kind": "answer", "status": 403, "code": "InvalidAccessKeyId"},
    ),
    "wrong secret": Wrong(
        ("the secret key does not fit", "CROWN_STORAGE__SECRET_ACCESS_KEY"),
        fault={"kind": "answer", "status": 403, "code": "SignatureDoesNotMatch"},
    ),
    "malformed region": Wrong(
        ("another region", "CROWN_STORAGE__REGION"), fault=region("AuthorizationHeaderMalformed", 400)
    ),
    "moved": Wrong(
        ("region", "CROWN_STORAGE__REGION"),
        fault=region("PermanentRedirect", 301, **{"x-amz-bucket-region": "eu-west-3"}),
    ),
    "clock": Wrong(
        ("this machine's clock is wrong", "set the clock"),
        fault={"kind": "answer", "status": 403, "code": "RequestTimeTooSkewed"},
    ),
    "quota": Wrong(
        ("no more room", "raise the quota"), code=80, fault=QUOTA_EXCEEDED | {"method": "PUT"}
    ),
    "disk of the server": Wrong(
        ("no more room", "raise the quota"), code=80,
        fault={"kind": "answer", "status": 507, "code": "InsufficientStorage", "method": "PUT"},
    ),
    "no create-only": Wrong(
        ("does not keep create-only writes", "If-None-Match"),
        fault={"kind": "strip", "headers": {"If-None-Match": ""}},
    ),
    "hangs": Wrong(
        ("does not answer (timed out)", "CROWN_STORAGE__ENDPOINT"), 80, {"kind": "hang"}, IMPATIENT
    ),
    "unwell": Wrong(
        ("answers 503", "try again later"), 80, {"kind": "answer", "status": 503}, IMPATIENT
    ),
    "refused": Wrong(
        ("does not answer (connection refused)", "CROWN_STORAGE__ENDPOINT"), 80,
        environment=IMPATIENT | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    ),
    "unknown host": Wrong(
        ("no address is known for no-such-host.invalid", "CROWN_STORAGE__ENDPOINT"), 80,
        environment=IMPATIENT | {"AWS_ENDPOINT_URL": "http://no-such-host.invalid:9000"},
    ),
    "no url": Wrong(("s3://bucket/prefix",), environment={"CROWN_STORAGE__ROOT": "s3://"}),
    "odd deadline": Wrong(
        ("CROWN_STORAGE__DEADLINE",), environment={"CROWN_STORAGE__DEADLINE": "soon"}
    ),
}  # fmt: skip
QUICK = ("no bucket", "write denied", "hangs", "no create-only")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in CASES],
)
def test_one_line_at_the_start(project: Project, bucket: Bucket, proxy: Proxy, name: str) -> None:
    wrong = CASES[name]
    if wrong.fault:
        proxy.arm(Fault(**wrong.fault))  # type: ignore[arg-type]
    line = told(project, wrong.code, **wrong.environment)
    for text in wrong.said:
        assert text in line, line
    assert bucket.keys("store/runs/") == []


def test_a_place_of_others(project: Project, bucket: Bucket) -> None:
    bucket.write("store/photos/cat.jpg", b"meow")
    line = told(project, 2)
    assert f"{bucket.url}/store holds other things (first: photos/cat.jpg)" in line
    assert f"{bucket.url}/store/crown" in line
    assert bucket.keys() == ["store/photos/cat.jpg"]


@pytest.mark.full
@pytest.mark.parametrize("prefix", ["", "a b", "über/größe", "50%/50%25", "a+b&c=d", "x/'y'/(z)!*"])
def test_odd_prefixes(project: Project, bucket: Bucket, prefix: str) -> None:
    root = f"{bucket.url}/{prefix}".rstrip("/")
    done = project.crown("task=train", env={"CROWN_STORAGE__ROOT": root})
    assert done.returncode == 0, done.stdout
    keys = bucket.keys()
    assert all(key.startswith(f"{prefix}/" if prefix else "") for key in keys), keys
    (run,) = {key.removeprefix(f"{prefix}/").split("/")[1] for key in keys if "runs/" in key}
    shown = project.crown("show", run, env={"CROWN_STORAGE__ROOT": root})
    assert shown.returncode == 0 and "completed" in shown.stdout, shown.stdout
    resumed = project.crown("resume", f"{root}/runs/{run}", env={"CROWN_STORAGE__ROOT": ""})
    assert resumed.returncode == 0 and "completed already" in resumed.stdout, resumed.stdout


@pytest.mark.full
def test_a_run_does_not_need_to_delete(project: Project, proxy: Proxy) -> None:
    """A store may be locked against that."""
    proxy.arm(Fault(**ACCESS_DENIED, method="DELETE"))
    done = project.crown("task=train")
    assert done.returncode == 0, done.stdout


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["FALSE"])
def certificate(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Signed by itself. param: whether it says that it is an authority's."""
    pair = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", f"basicConstraints=critical,CA:{request.param}",
         "-keyout", str(pair[1]), "-out", str(pair[0])],
        check=True, capture_output=True,
    )  # fmt: skip
    return pair


@pytest.fixture
def tls(bucket: Bucket, certificate: tuple[Path, Path]) -> Iterator[Proxy]:
    with Proxy(bucket.direct.url, tls=certificate) as running:
        yield running


@pytest.mark.full
def test_a_certificate_that_nobody_known_signed(
    project: Project, tls: Proxy, certificate: tuple[Path, Path]
) -> None:
    line = told(project, 2, AWS_ENDPOINT_URL=tls.url)
    assert f"the certificate of {tls.url} is not to be trusted: nobody known signed it" in line
    assert "AWS_CA_BUNDLE" in line
    known = {"AWS_ENDPOINT_URL": tls.url, "AWS_CA_BUNDLE": str(certificate[0])}
    done = project.crown("task=train", env=known)
    assert done.returncode == 0, done.stdout


@pytest.mark.full
@pytest.mark.parametrize("certificate", ["TRUE"], indirect=True)
def test_a_certificate_of_an_authority_is_no_servers(
    project: Project, tls: Proxy, certificate: tuple[Path, Path]
) -> None:
    """As `openssl req -x509` makes them if it is told nothing else."""
    line = told(project, 2, AWS_ENDPOINT_URL=tls.url, AWS_CA_BUNDLE=str(certificate[0]))
    assert "it is an authority's (CA:TRUE), not a server's; make one with CA:FALSE" in line


@pytest.mark.full
def test_tls_to_a_port_without(project: Project, bucket: Bucket) -> None:
    line = told(project, 2, AWS_ENDPOINT_URL=bucket.direct.url.replace("http:", "https:"))
    assert "does not speak TLS" in line and "CROWN_STORAGE__ENDPOINT=http://" in line


@pytest.mark.full
def test_plain_http_to_a_port_with_tls(project: Project, tls: Proxy) -> None:
    line = told(project, 80, AWS_ENDPOINT_URL=tls.url.replace("https:", "http:"), **IMPATIENT)
    assert "does not answer" in line and "CROWN_STORAGE__ENDPOINT" in line


@pytest.mark.full
def test_a_port_that_speaks_no_http(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = told(project, 80, AWS_ENDPOINT_URL=url, **IMPATIENT)
    assert "does not answer (timed out)" in line
