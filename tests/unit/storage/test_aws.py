"""Whose credentials are used, and which server is asked: by variables and AWS's files."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.aws import NoCredentials, Profile, Way, told_region, way_to_s3
from crown_exp.storage.objects import ObjectStore
from crown_exp.storage.through_fsspec import FsspecStore
from crown_exp.storage.unfinished import unfinished_uploads
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
def test_a_profile_without_credentials_says_so(home: Path, profile: str) -> None:
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


def test_the_region_that_aws_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody, in a header of whatever it answers."""
    monkeypatch.setattr("crown_exp.storage.aws.REGION_S", 60.0)
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
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_endpoints_with_a_password_are_refused_and_not_shown(home: Path) -> None:
    with pytest.raises(SettingsError, match="there are credentials in the URL") as caught:
        way_to_s3(KEYS | {"AWS_ENDPOINT_URL": "http://ada:hunter2@minio:9000"}, home)
    assert "hunter2" not in str(caught.value)


SSO = "sso_start_url = https://x\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("credential_process = false", "its credential_process fails: without a word"),
        ("credential_process = sh -c 'echo no >&2; exit 1'", "credential_process fails: no"),
        ("credential_process = echo hi", "its credential_process does not print"),
        ("credential_process = true", "its credential_process does not print"),
        ("credential_process = /no/such", "its credential_process cannot be run"),
        ("aws_access_key_id = x", "missing: aws_secret_access_key"),
        ("role_arn = arn:aws:iam::1:role/x\nsource_profile = nobody", "nobody"),
        (SSO, "aws sso login --profile default"),
    ],
)
@pytest.mark.parametrize("kind", [ObjectStore, FsspecStore])
def test_a_profile_that_fails_is_one_line_at_the_start_and_later(
    home: Path, kind: Any, profile: str, said: str
) -> None:
    (home / ".aws" / "credentials").unlink()
    (home / ".aws" / "config").write_text(f"[default]\nregion = us-east-1\n{profile}\n")
    access = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "DEADLINE": "60"}
    for act, error in (
        (kind("s3://b/p", access).prepare(), SettingsError),
        (kind("s3://b/p", access).put("x", b"1"), StoreError),
        (unfinished_uploads("s3://b/p", access, "", datetime.now(UTC)), StoreError),
    ):
        with pytest.raises(error, match="no credentials were found") as caught:
            run(act)
        assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(home: Path) -> None:
    (home / ".aws" / "config").write_text("]] nonsense")
    with pytest.raises(SettingsError, match=r"AWS's files cannot be read: .*config; mend them"):
        way_to_s3({}, home)


def test_nothing_is_taken_from_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws" / "credentials").unlink()
    (home / ".aws" / "config").write_text(
        "[default]\noutput = json\n[profile lab]\noutput = json\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "of-the-environment")
    assert way_to_s3({}, home) == Way()
    way = way_to_s3({"AWS_PROFILE": "lab"}, home)
    assert way.region == "" and way.credentials is not None
    with pytest.raises(NoCredentials, match="profile lab has none"):  # the machine is not asked
        way.credentials()


class Throttled(Exception):
    response: ClassVar = {"Error": {"Code": "ThrottlingException"}}


def test_a_busy_server_of_credentials_is_asked_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile("lab", {"config_file": home / ".aws" / "config"})

    def busy() -> None:
        raise Throttled

    monkeypatch.setattr(profile, "_look", busy)
    with pytest.raises(OSError, match="profile lab"):
        profile()


@pytest.mark.parametrize("kind", [ObjectStore, FsspecStore])
def test_a_process_that_hangs_is_left_behind(home: Path, kind: Any) -> None:
    """Neither a call's deadline nor the end of the process waits for it."""
    (home / ".aws" / "config").write_text("[default]\ncredential_process = sleep 300\n")
    (home / ".aws" / "credentials").unlink()
    code = f"""
import anyio, botocore.session, obstore.store  # not what hangs
from datetime import UTC, datetime
from {kind.__module__} import {kind.__name__}
from crown_exp.errors import StoreError
from crown_exp.storage.unfinished import unfinished_uploads
access = {{"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "DEADLINE": "3"}}
for act in (
    lambda: {kind.__name__}("s3://b/p", access).get("x"),
    lambda: unfinished_uploads("s3://b/p", access, "", datetime.now(UTC)),
):
    try:
        anyio.run(act)
    except StoreError as error:
        print("timed out" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_s3fs_takes_the_credentials_of_the_files(bucket: Bucket, home: Path) -> None:
    store = FsspecStore(bucket.url, {"AWS_ENDPOINT_URL": bucket.endpoint, "AWS_PROFILE": "lab"})
    run(store.put("x", b"1"))
    assert bucket.keys() == ["x"]
    session = store.filesystem().system.session
    keys = run(run(session.get_credentials()).get_frozen_credentials())
    assert (keys.access_key, keys.token) == ("of-lab", "t2")


@pytest.mark.skipif(sys.platform == "win32", reason="makes a pipe with a name")
def test_a_disk_that_hangs_is_left_behind(home: Path) -> None:
    """A file that nobody ever writes to the end."""
    os.mkfifo(home / "authority")
    access = KEYS | {"AWS_CA_BUNDLE": str(home / "authority"), "DEADLINE": "0.2"}
    with pytest.raises(StoreError, match=r"to find the way to it took more than 0\.2 s"):
        run(ObjectStore("s3://b/p", access).get("x"))


def test_an_endpoint_with_a_bucket_in_it_is_refused(home: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"expected no path; the bucket belongs in CROWN_STORAGE"
    ):
        way_to_s3({"AWS_ENDPOINT_URL": "http://minio:9000/bucket"}, home)
    assert way_to_s3({"AWS_ENDPOINT_URL": "http://minio:9000/"}, home).endpoint
