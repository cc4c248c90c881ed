"""Data is put into a store once, and comes out of it as it was, or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crown_exp.errors import ConfigError, StoreError
from crown_exp.folder.records import Damaged
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.file import FileStore
from crown_exp.storage.memory import MemoryStore
from crown_exp.storage.objects import ObjectStore
from crown_exp.storage.through_fsspec import FsspecStore
from crown_exp.storage.uploads import fetch, parse_upload, send, surveyed
from tests.s3.buckets import Bucket


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as opened:
        yield opened


@pytest.fixture
def away(tmp_path: Path) -> BlobStore:
    """A store without files of this machine."""
    return MemoryStore(str(tmp_path))


def write(root: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_file_comes_back(portal: Portal, away: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "a b.csv"
    source.write_bytes(os.urandom(100_000))
    upload = surveyed(source)
    told: list[int] = []
    assert portal.call(send, away, upload, told.append) == 1
    assert told == [100_000]
    assert parse_upload(f"{away.url}/{upload.path}") == (away.url, upload.path)
    path = portal.call(fetch, away, upload.path, tmp_path / "kept")
    assert (path.name, path.read_bytes()) == ("a b.csv", source.read_bytes())


def test_a_folder_comes_back_without_what_is_no_data(
    portal: Portal, away: BlobStore, tmp_path: Path
) -> None:
    data = {"x.bin": b"1", "deep__y.bin": b"", "deep__deeper__z": b"3" * 70_000}
    source = write(tmp_path / "set", **data, **{".DS_Store": b"no"})
    (source / "__pycache__").mkdir()
    (source / "__pycache__/m.pyc").write_bytes(b"no")
    upload = surveyed(source)
    portal.call(send, away, upload)
    path = portal.call(fetch, away, upload.path, tmp_path / "kept")
    assert path.name == "set"
    assert {name.replace("__", "/") for name in data} <= set(files_of(path))
    assert not {"__pycache__/m.pyc", ".DS_Store"} & set(files_of(path))


def test_it_is_sent_and_fetched_once(portal: Portal, away: BlobStore, tmp_path: Path) -> None:
    source = write(tmp_path / "set", a=b"1", b=b"22")
    upload = surveyed(source)
    assert portal.call(send, away, upload) == 2
    assert portal.call(send, away, surveyed(source)) == 0
    first = portal.call(fetch, away, upload.path, tmp_path / "kept")
    portal.call(away.delete, f"data/{upload.digest}/set/a")
    assert portal.call(fetch, away, upload.path, tmp_path / "kept") == first
    assert portal.call(send, away, surveyed(source)) == 1  # what is missing


def test_other_bytes_or_names_are_another_upload(tmp_path: Path) -> None:
    digests = {
        surveyed(write(tmp_path / name, **files)).path
        for name, files in (
            ("one/set", {"a": b"1"}),
            ("two/set", {"a": b"2"}),
            ("three/set", {"b": b"1"}),
            ("four/other", {"a": b"1"}),
            ("five/set", {"a": b"1"}),
        )
    }
    assert len(digests) == 4


def test_half_an_upload_and_a_changed_one_are_refused(
    portal: Portal, away: BlobStore, tmp_path: Path
) -> None:
    upload = surveyed(write(tmp_path / "set", a=b"1", b=b"22"))
    portal.call(send, away, upload)
    portal.call(away.put, f"data/{upload.digest}/set/b", b"23")
    with pytest.raises(
        Damaged, match="is not whole, or not what was uploaded; upload it once more"
    ):
        portal.call(fetch, away, upload.path, tmp_path / "kept")
    portal.call(away.delete, f"data/{upload.digest}/set/b")
    with pytest.raises(Damaged):
        portal.call(fetch, away, upload.path, tmp_path / "kept")
    portal.call(away.delete, f"data/{upload.digest}/set/a")
    with pytest.raises(NotFound, match="there is no data/"):
        portal.call(fetch, away, upload.path, tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*"))  # nothing of them stays


def test_what_lies_in_a_directory_is_where_it_is(portal: Portal, tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "store"))
    upload = surveyed(write(tmp_path / "set", a=b"1"))
    portal.call(send, store, upload)
    path = portal.call(fetch, store, upload.path, tmp_path / "kept")
    assert path.is_relative_to(tmp_path / "store")
    assert files_of(path) == {"a": b"1"}
    with pytest.raises(NotFound):
        portal.call(fetch, store, "data/0000000000000000/x", tmp_path / "kept")


@pytest.mark.parametrize("kind", [ObjectStore, FsspecStore])
def test_through_s3(
    portal: Portal, bucket: Bucket, kind: Callable[..., BlobStore], tmp_path: Path
) -> None:
    store = kind(f"{bucket.url}/here", bucket.access)
    source = write(tmp_path / "set", a=os.urandom(300_000), b=b"", deep__c=b"3")
    upload = surveyed(source)
    assert [portal.call(send, store, upload) for _ in range(2)] == [3, 0]
    path = portal.call(fetch, store, upload.path, tmp_path / "kept")
    assert files_of(path) == files_of(source)


def test_many_fetch_it_at_once(portal: Portal, away: BlobStore, tmp_path: Path) -> None:
    upload = surveyed(write(tmp_path / "set", a=b"1" * 100_000))
    portal.call(send, away, upload)

    async def all_at_once() -> list[Path]:
        folder = tmp_path / "kept"
        return await asyncio.gather(*(fetch(away, upload.path, folder) for _ in range(5)))

    paths = portal.call(all_at_once)
    assert len(set(paths)) == 1
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [upload.digest]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: root / "none", "no such file"),
        (lambda root: write(root / "set", a=b"1", **{".env": b"T=1"}), "where secrets are kept"),
        (lambda root: write(root, **{".env.local": b"T=1"}) / ".env.local", "where secrets are kept"),
        (lambda root: Path("/dev/null"), "expected a file, or a folder with files in it"),
        (lambda root: Path("/"), "expected a file"),
    ],
)  # fmt: skip
def test_what_is_no_data_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make(tmp_path) == Path("/"):
        monkeypatch.setattr(Path, "rglob", lambda *_: iter(()))  # not all of this machine
    with pytest.raises(ConfigError, match=expected):
        surveyed(make(tmp_path))


def test_an_empty_folder_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file, or a folder with files in it"):
        surveyed(tmp_path)


def test_a_folder_that_does_not_take_it(portal: Portal, away: BlobStore, tmp_path: Path) -> None:
    upload = surveyed(write(tmp_path / "set", a=b"1"))
    portal.call(send, away, upload)
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(StoreError, match="kept"):
        portal.call(fetch, away, upload.path, tmp_path / "kept")


@pytest.mark.parametrize(
    "url",
    ["", "x", "s3://b/data/xyz/a", "s3://b/data/0123456789abcdef", "/data/0123456789abcdef/a/b", "s3://b/runs/x"],
)  # fmt: skip
def test_other_urls_are_none(url: str) -> None:
    assert parse_upload(url) is None


names = st.text("abc.é -_", min_size=1, max_size=8).filter(
    lambda name: name.strip(".") and not name.startswith((".env", ".crown-"))
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None, max_examples=30,
)  # fmt: skip
@given(files=st.dictionaries(names, st.binary(max_size=200), min_size=1, max_size=5))
def test_any_files_come_back(
    portal: Portal, tmp_path_factory: Any, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("any")
    store = MemoryStore(str(root))
    (root / "set").mkdir()
    for name, data in files.items():
        (root / "set" / name).write_bytes(data)
    upload = surveyed(root / "set")
    portal.call(send, store, upload)
    assert files_of(portal.call(fetch, store, upload.path, root / "kept")) == files
