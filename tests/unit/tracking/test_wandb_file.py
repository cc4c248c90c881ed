"""W&B's file, as W&B itself writes it, whole, cut anywhere and with any byte changed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.tracking.wandb_file import read_records

datastore = pytest.importorskip("wandb.sdk.internal.datastore", reason="W&B is not installed")

RECORDS = [bytes([number % 251]) * (number * 7) for number in range(120)] + [b"x" * 90_000, b"end"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("wandb") / "run.wandb"
    store = datastore.DataStore()
    store.open_for_write(str(path))
    for record in RECORDS:
        store._write_data(record)
    store.close()
    return path.read_bytes()


def read(data: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(data)))


def test_every_record_is_read(written: bytes) -> None:
    assert read(written) == RECORDS


@given(st.data())
def test_cut_anywhere_what_is_whole_is_read(written: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(written)))
    found = read(written[:cut])
    assert found == RECORDS[: len(found)]
    assert len(found) == len(RECORDS) or cut < len(written)


@given(st.data())
def test_from_where_it_is_damaged_nothing_is_taken(written: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(7, len(written) - 1))
    damaged = bytearray(written)
    damaged[at] ^= data.draw(st.integers(1, 255))
    found = read(bytes(damaged))
    assert found == RECORDS[: len(found)]


@pytest.mark.parametrize("data", [b"", b":W&", b"something else", b":W&B\0\0\0", bytes(100_000)])
def test_what_is_no_such_file_has_no_records(data: bytes) -> None:
    assert read(data) == []
