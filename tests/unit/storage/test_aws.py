"""Whose credentials are used, and which server is asked: by variables and AWS's files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.aws import told_region, way_to_s3
from crown_exp.storage.objects import ObjectStore
from tests.s3.buckets import Bucket

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with AWS's files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = of-default\naws_secret_access_key = s1\n"
        "[lab]\naws_access_key_id = of-lab\naws_secret_access_key = s2\naws_session_token = t2\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile lab]\nregion = eu-west-2\nendpoint_url = https://lab\n"
        "[profile minio]\nservices = here\n[services here]\ns3 =\n  endpoint_url = http://minio:9000\n"
        "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = nobody\n"
        "[profile process]\ncredential_process = /bin/cat {}\n".replace("{}", str(tmp_path / "out"))
    )
    return tmp_path


def test_keys_that_are_given_win(home: Path) -> None:
    way = way_to_s3(
        KEYS | {"AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "lab", "AWS_REGION": "r"}, home
    )
    assert way.credentials is not None
    assert way.credentials() == {
        "access_key_id": "id", "secret_access_key": "key", "token": "t", "expires_at": None,
    }  # fmt: skip
    assert (way.endpoint, way.region) == ("", "r")


@pytest.mark.parametrize("missing", KEYS)
def test_half_a_pair_of_keys(home: Path, missing: str) -> None:
    given = {name: value for name, value in KEYS.items() if name != missing}
    with pytest.raises(SettingsError, match=f"{missing.removeprefix('AWS_')} .*is not set"):
        way_to_s3(given, home)


def test_profiles(home: Path) -> None:
    for given, key, region, endpoint in (
        ({}, "of-default", "eu-west-1", ""),
        ({"AWS_PROFILE": "lab"}, "of-lab", "eu-west-2", "https://lab"),
        ({"AWS_PROFILE": "lab", "AWS_REGION": "x"}, "of-lab", "x", "https://lab"),
        ({"AWS_PROFILE": "lab", "AWS_ENDPOINT_URL": "http://y"}, "of-lab", "eu-west-2", "http://y"),
    ):
        way = way_to_s3(given, home)
        assert way.credentials is not None
        assert way.credentials()["access_key_id"] == key
        assert (way.region, way.endpoint) == (region, endpoint)
    assert way_to_s3({"AWS_PROFILE": "minio"}, home).endpoint == "http://minio:9000"


def test_files_elsewhere(home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = e\naws_secret_access_key = s\n")
    way = way_to_s3({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys")}, home)
    assert way.credentials is not None
    assert way.credentials()["access_key_id"] == "e"


def test_keys_that_are_renewed_in_the_file_are_used(home: Path) -> None:
    way = way_to_s3({"AWS_PROFILE": "lab"}, home)
    assert way.credentials is not None
    soon = way.credentials()["expires_at"] - datetime.now(UTC)
    assert soon < timedelta(minutes=10)
    (home / ".aws" / "credentials").write_text(
        "[lab]\naws_access_key_id = renewed\naws_secret_access_key = s\n"
    )
    assert way.credentials()["access_key_id"] == "renewed"


def test_credentials_that_expire_say_when(home: Path) -> None:
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    (home / "out").write_text(
        '{"Version": 1, "AccessKeyId": "p", "SecretAccessKey": "s", "SessionToken": "t",'
        f' "Expiration": "{expiry.isoformat()}"}}'
    )
    way = way_to_s3({"AWS_PROFILE": "process"}, home)
    assert way.credentials is not None
    assert way.credentials()["expires_at"] == expiry


def test_a_profile_that_is_not_there(home: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"AWS_PROFILE: there is no profile lap .*known are .*lab"
    ):
        way_to_s3({"AWS_PROFILE": "lap"}, home)


@pytest.mark.parametrize("profile", ["role", "process", "minio"])
def test_a_profile_without_credentials_says_so(
    home: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # no machine's own
    store = ObjectStore(
        "s3://b/p", {"AWS_PROFILE": profile, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    )
    with pytest.raises(
        StoreError, match=r"no credentials were found \(profile .*\); set AWS_PROFILE"
    ):
        run(store.get("x"))


def test_without_files_it_is_what_the_machine_is_given(tmp_path: Path) -> None:
    way = way_to_s3({"AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/f"}, tmp_path)
    assert way.credentials is None
    assert way.machine == {"role_arn": "arn", "web_identity_token_file": "/f"}


def test_a_machine_that_is_given_credentials(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str
) -> None:
    """As ECS and EKS give them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    access = {"AWS_ENDPOINT_URL": bucket.endpoint, "AWS_CONTAINER_CREDENTIALS_FULL_URI": metadata}
    (tmp_path / "token").write_text("t")
    access |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")}
    run(ObjectStore(bucket.url, access).put("x", b"1"))
    assert bucket.keys() == ["x"]


def test_a_profile_in_a_store(bucket: Bucket, home: Path) -> None:
    run(
        ObjectStore(bucket.url, {"AWS_ENDPOINT_URL": bucket.endpoint, "AWS_PROFILE": "lab"}).put(
            "x", b"1"
        )
    )
    assert bucket.keys() == ["x"]


def test_the_environment_s_token_goes_with_no_keys_of_ours(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads the environment; keys that are given are taken whole."""
    store = ObjectStore(bucket.url, bucket.access)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    run(store.put("x", b"1"))
    handle = run(store._transport.connect())
    assert "of another" not in repr(handle)
    provider = handle.credential_provider  # type: ignore[union-attr]
    assert provider is not None and provider()["token"] is None  # type: ignore[index]


def test_the_region_that_aws_tells() -> None:
    """Everybody, in a header of whatever it answers."""
    answers = {"/there": (301, "eu-west-3"), "/mine": (403, "us-west-2"), "/none": (404, None)}

    class Tells(Quiet):
        def do_HEAD(self) -> None:
            status, region = answers[self.path]
            self.send_response(status)
            if region:
                self.send_header("x-amz-bucket-region", region)
            self.end_headers()

    with serving(Tells) as url:
        found = [told_region(name, url) for name in ("there", "mine", "none")]
    assert found == ["eu-west-3", "us-west-2", ""]
    assert told_region("any", "http://127.0.0.1:1") == ""


def run(call):  # type: ignore[no-untyped-def]
    import anyio

    async def wait():  # type: ignore[no-untyped-def]
        return await call

    return anyio.run(wait)


@pytest.fixture
def metadata() -> Iterator[str]:
    """A server that gives a container its credentials."""

    class Gives(Quiet):
        def do_GET(self) -> None:
            until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            body = (
                '{"AccessKeyId": "c", "SecretAccessKey": "s", "Token": "t", "RoleArn": "r", '
                f'"Expiration": "{until}"}}'
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Gives) as url:
        yield f"{url}/creds"


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
