"""A bucket that is not there, not ours, not allowed, not reached: one line each, with what to set."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.errors import CrownError, SettingsError, StoreError
from crown_exp.storage.objects import ObjectStore
from tests.s3.buckets import Bucket
from tests.s3.faults import ACCESS_DENIED, EXPIRED_TOKEN, QUOTA_EXCEEDED, Fault
from tests.s3.servers import Moto, Proxy

pytestmark = pytest.mark.anyio
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_REGION": "us-east-1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def told(store: ObjectStore, kind: type[CrownError]) -> str:
    """What prepare() says."""
    with pytest.raises(CrownError) as caught:
        await store.prepare()
    assert type(caught.value).exit_code == kind.exit_code, caught.value
    assert "\n" not in str(caught.value) and "s3cr3t" not in str(caught.value)
    return str(caught.value)


async def test_prepare_makes_a_place_once(bucket: Bucket, proxy: Proxy) -> None:
    store = ObjectStore(f"{bucket.url}/p", bucket.behind(proxy).access)
    await store.prepare()
    assert len(proxy.operations()) == 4
    proxy.clear()
    await store.prepare()
    assert len(proxy.operations()) == 2
    assert bucket.keys() == ["p/.crown-store"]
    assert bucket.read("p/.crown-store") == b'{"format":1}'


async def test_runs_that_were_copied_there_are_ours(bucket: Bucket) -> None:
    bucket.write("p/runs/r261130-abc/run.json", b"{}")
    bucket.write("p/.crown-clock", b"")
    await ObjectStore(f"{bucket.url}/p", bucket.access).prepare()


@pytest.mark.parametrize(
    "key", ["p/photo.jpg", "p/runs/tensorboard/events", "p//x", "p/run/a/run.json"]
)
async def test_another_s_place(bucket: Bucket, key: str) -> None:
    bucket.write(key, b"")
    line = await told(ObjectStore(f"{bucket.url}/p", bucket.access), SettingsError)
    assert "set CROWN_STORAGE__ROOT to an empty prefix" in line
    assert f"{bucket.url}/p/crown" in line
    assert bucket.keys() == [key]
    await ObjectStore(
        f"{bucket.url}/p/crown" if key != "p//x" else f"{bucket.url}/q", bucket.access
    ).prepare()


async def test_a_newer_format(bucket: Bucket) -> None:
    bucket.write("p/.crown-store", b'{"format":2}')
    line = await told(ObjectStore(f"{bucket.url}/p", bucket.access), SettingsError)
    assert "of format 2, and this program knows 1: install the newer" in line


async def test_a_server_without_create_only_writes(bucket: Bucket, proxy: Proxy) -> None:
    proxy.arm(Fault("strip", method="PUT", headers={"if-none-match": ""}))
    store = ObjectStore(f"{bucket.url}/p", bucket.behind(proxy).access)
    assert "does not keep create-only writes (If-None-Match: *)" in await told(store, SettingsError)
    proxy.clear()
    proxy.arm(Fault("answer", method="PUT", status=501, code="NotImplemented"))
    assert "cannot do this (501 NotImplemented)" in await told(store, SettingsError)


async def test_no_bucket(bucket: Bucket) -> None:
    store = ObjectStore("s3://no-such-bucket-here/p", bucket.access)
    assert "there is no bucket no-such-bucket-here at http" in await told(store, SettingsError)
    with pytest.raises(StoreError, match="there is no bucket"):
        await store.put("x", b"")
    with pytest.raises(StoreError, match="there is no bucket"):
        await store.list("")
    with pytest.raises(StoreError, match="there is no bucket"):
        await store.delete("x")


@pytest.mark.parametrize(
    ("method", "act", "said"),
    [
        ("PUT", "put", "cannot write x in {url}: the credentials may not write there; allow s3:PutObject"),
        ("GET", "get", "cannot read x in {url}: the credentials may not read there; allow s3:GetObject"),
        ("GET", "list", "cannot list {url}: the credentials may not list there; allow s3:ListBucket"),
        ("DELETE", "delete", "cannot delete x in {url}: the credentials may not delete there; allow s3:Delete"),
        ("PUT", "copy", "cannot copy x in {url}: the credentials may not copy there; allow s3:GetObject and"),
        ("HEAD|GET", "stat", "cannot read x in {url}: the credentials may not read there; allow s3:GetObject"),
    ],
)  # fmt: skip
async def test_no_permission(
    bucket: Bucket, proxy: Proxy, method: str, act: str, said: str
) -> None:
    store = ObjectStore(f"{bucket.url}/p", bucket.behind(proxy).access)
    proxy.arm(Fault(method=method, **ACCESS_DENIED))
    given = {"put": ("x", b""), "copy": ("x", "y"), "list": ("",)}.get(act, ("x",))
    with pytest.raises(StoreError) as caught:
        await getattr(store, act)(*given)
    assert str(caught.value).startswith(said.format(url=store.url))
    assert proxy.count() == (2 if act == "stat" else 1)  # nobody insists


async def test_credentials_that_expire(bucket: Bucket, proxy: Proxy) -> None:
    store = ObjectStore(f"{bucket.url}/p", bucket.behind(proxy).access)
    await store.prepare()
    proxy.arm(Fault(**EXPIRED_TOKEN))
    for act in (store.put("x", b""), store.stat("x"), store.get("x"), store.list("")):
        with pytest.raises(StoreError, match=r"the credentials have expired; renew them \(aws sso"):
            await act
    assert "have expired" in await told(store, SettingsError)


async def test_no_room(bucket: Bucket, proxy: Proxy) -> None:
    store = ObjectStore(f"{bucket.url}/p", bucket.behind(proxy).access)
    proxy.arm(Fault(method="PUT", **QUOTA_EXCEEDED))
    with pytest.raises(StoreError, match=r"no more room for it there \(QuotaExceeded\); raise"):
        await store.put("x", b"")


@pytest.mark.full
async def test_keys_that_the_server_does_not_know(ceph_bucket: Bucket) -> None:
    store = ObjectStore(
        f"{ceph_bucket.url}/p", ceph_bucket.access | {"AWS_ACCESS_KEY_ID": "nobody"}
    )
    assert "does not know the access key id" in await told(store, SettingsError)
    store = ObjectStore(
        f"{ceph_bucket.url}/p", ceph_bucket.access | {"AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    )
    assert "the secret key does not fit" in await told(store, SettingsError)
    with pytest.raises(StoreError, match="the secret key does not fit"):
        await store.stat("x")


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1 does not answer (connection refused); check the network"),
        ("http://no-such-host.invalid", "no address is known for no-such-host.invalid; check the network"),
    ],
)  # fmt: skip
async def test_nobody_answers(endpoint: str, said: str) -> None:
    store = ObjectStore("s3://b/p", KEYS | {"AWS_ENDPOINT_URL": endpoint, "DEADLINE": "2"})
    await store._transport.connect()  # imports a library, which is not in question here
    assert said in await told(store, StoreError)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """An authority's certificate for localhost, and its key; the authority is nobody's."""
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    names = [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    subprocess.run(
        [*asked, *names, "-out", made[0], "-keyout", made[1]], check=True, capture_output=True
    )
    return made


@pytest.fixture
def tls(moto: Moto, certificate: tuple[Path, Path]) -> Iterator[Proxy]:
    with Proxy(moto.url, certificate) as running:
        yield running


async def test_certificates(bucket: Bucket, tls: Proxy, certificate: tuple[Path, Path]) -> None:
    there = tls.url.replace("127.0.0.1", "localhost")
    assert there.startswith("https://localhost:")
    access = bucket.access | {"AWS_ENDPOINT_URL": there, "AWS_ENDPOINT_URL_S3": there}
    line = await told(ObjectStore(f"{bucket.url}/p", access), SettingsError)
    assert f"the certificate of {there} is not to be trusted: nobody known signed it" in line
    assert "set AWS_CA_BUNDLE to the file of the authority that signed it" in line
    await ObjectStore(f"{bucket.url}/p", access | {"AWS_CA_BUNDLE": str(certificate[0])}).prepare()


async def test_plain_http_where_tls_is_asked_for(bucket: Bucket) -> None:
    there = bucket.endpoint.replace("http:", "https:")
    access = bucket.access | {"AWS_ENDPOINT_URL": there, "AWS_ENDPOINT_URL_S3": there}
    line = await told(ObjectStore(f"{bucket.url}/p", access), SettingsError)
    assert f"{there} does not speak TLS; if it is to be plain http" in line


async def test_an_authority_s_file_that_is_not_there() -> None:
    store = ObjectStore("s3://b/p", KEYS | {"AWS_CA_BUNDLE": "/no/such.pem"})
    assert "AWS_CA_BUNDLE: cannot read /no/such.pem" in await told(store, SettingsError)
