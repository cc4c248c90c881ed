"""Which URL opens which store, and what a wrong one says."""

from pathlib import Path

import pytest

from crown_exp.errors import SettingsError
from crown_exp.storage import open_blobs
from crown_exp.storage.file import FileStore
from crown_exp.storage.memory import MemoryStore
from crown_exp.storage.objects import ObjectStore
from crown_exp.storage.through_fsspec import FsspecStore
from tests.secret_urls import SECRET_URLS


def root_of(url: str) -> Path:
    store = open_blobs(url)
    assert isinstance(store, FileStore)
    return store.root


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    odd = tmp_path / "a b%20ü#1"
    assert root_of(odd.as_uri()) == odd
    assert root_of(str(odd)) == odd
    assert root_of(f"FILE://localhost{tmp_path}/x") == tmp_path / "x"
    assert root_of("x/../y") == tmp_path / "y"
    assert root_of("~/store") == tmp_path / "home" / "store"
    assert not any(tmp_path.iterdir())  # opening makes nothing


def test_a_store_s_own_url_opens_it_again(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "a b%20ü#1?x")
    assert root_of(store.url) == store.root
    assert open_blobs(open_blobs("memory://x").url).url == "memory://x"


def test_buckets() -> None:
    store = open_blobs("S3://bucket/a b/c%20d/")
    assert isinstance(store, ObjectStore)
    assert store.url == "s3://bucket/a b/c%20d"
    assert open_blobs(store.url).url == store.url
    assert open_blobs("s3://bucket").url == "s3://bucket"


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_what_is_not_installed_is_named(scheme: str, package: str) -> None:
    with pytest.raises(SettingsError, match=f"{scheme}:// needs {package}: pip install {package}$"):
        open_blobs(f"{scheme}://bucket/x")


def test_a_bucket_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crown_exp.storage.urls.find_spec", lambda name: None)
    assert isinstance(open_blobs("s3://bucket/x"), FsspecStore)


def test_whatever_else_fsspec_knows(tmp_path: Path) -> None:
    assert isinstance(open_blobs(f"local://{tmp_path}"), FsspecStore)


def test_memory() -> None:
    assert isinstance(open_blobs("memory://"), MemoryStore)
    assert open_blobs("memory://a/b").url == "memory://a/b"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s5://bucket", "s3://"),
        ("s3://", "a bucket's URL is s3://bucket or s3://bucket/prefix"),
        ("s3://bucket?x=1", "a bucket's URL is s3://bucket or s3://bucket/prefix"),
        ("file://data/store", "three slashes"),
        ("file://", "three slashes"),
        ("", "an empty path is no store"),
    ],
)
def test_what_is_no_store_is_refused_in_one_line(url: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_blobs(url)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_password_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="there are credentials in the URL") as caught:
        open_blobs(url)
    assert "wJalr" not in str(caught.value)
