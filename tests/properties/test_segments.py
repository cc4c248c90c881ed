"""A log segment gives back what was logged, or a beginning of it, or an error: never something else."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.errors import CrownError
from crown_exp.folder.segment import (
    SegmentHeader,
    decode_segment,
    encode_batch,
    encode_header,
    event,
    point,
)

names = st.text(max_size=12)  # with half surrogate pairs, control characters, quotes
numbers = st.floats() | st.integers()
plain = st.recursive(
    st.none() | st.booleans() | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
points = st.builds(point, st.integers(), st.floats(0, 4e9), st.dictionaries(names, numbers))
events = st.builds(event, st.floats(0, 4e9), names, st.dictionaries(names, plain, max_size=3))
calm = settings(deadline=None)
thorough = settings(deadline=None, max_examples=25)  # each tries every byte
batches = st.lists(st.lists(points | events, max_size=4), max_size=4)


def same(one: object, other: object) -> bool:
    """Equality that holds for nan, and tells 1 from 1.0 and from True."""
    return json.dumps(one) == json.dumps(other)


def segment(content: Sequence[Sequence[Any]]) -> bytes:
    return encode_header("r261122-k7f3q2", 3, 7) + b"".join(map(encode_batch, content))


def read_prefix(data: bytes, written: Sequence[Sequence[Any]]) -> int | None:
    """How many batches were read, all of them as written; None if an error was raised."""
    try:
        found = decode_segment(data)
    except CrownError:
        return None
    assert same(found.batches, written[: len(found.batches)])
    assert found.header in (None, SegmentHeader("r261122-k7f3q2", 3, 7))
    assert found.torn == (found.good_bytes < len(data) or found.header is None)
    return len(found.batches)


@calm
@given(batches)
def test_gives_back_what_was_logged(written: list[list[Any]]) -> None:
    data = segment(written)
    found = decode_segment(data)
    assert found.header == SegmentHeader("r261122-k7f3q2", 3, 7)
    assert same(found.batches, written)
    assert (found.good_bytes, found.torn) == (len(data), False)


@thorough
@given(batches)
def test_every_truncation_is_a_prefix(written: list[list[Any]]) -> None:
    data = segment(written)
    counts = [read_prefix(data[:size], written) for size in range(len(data))]
    assert None not in counts  # being cut short is no error
    assert counts == sorted(counts)  # type: ignore[type-var]


@calm
@given(batches, st.binary(min_size=1, max_size=40))
def test_what_follows_a_torn_tail_is_not_read(written: list[list[Any]], noise: bytes) -> None:
    data = segment(written)
    for tail in (noise, bytes(len(noise)), b"\xff" * len(noise)):
        assert read_prefix(data + tail, written) == len(written)
        assert decode_segment(data + tail).good_bytes == len(data)


@thorough
@given(batches, st.integers(1, 255))
def test_every_flipped_byte_is_noticed(written: list[list[Any]], mask: int) -> None:
    data = segment(written)
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
        count = read_prefix(damaged, written)
        assert count is None or decode_segment(damaged).torn


@calm
@given(batches, batches)
def test_a_writer_can_go_on_at_good_bytes(first: list[list[Any]], more: list[list[Any]]) -> None:
    data = segment(first)
    torn = data + encode_batch([["m", 1, 0.5, {"loss": 1.0}]])[:-1]
    mended = torn[: decode_segment(torn).good_bytes] + b"".join(map(encode_batch, more))
    assert same(decode_segment(mended).batches, first + more)


@calm
@given(st.binary(max_size=60))
def test_noise_is_an_error_or_nothing(noise: bytes) -> None:
    try:
        found = decode_segment(noise)
    except CrownError as error:
        assert "\n" not in str(error)
    else:
        assert found.batches == []


def test_numbers_that_are_not_finite_come_back() -> None:
    values = {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 1e308, "e": -0.0}
    (batch,) = decode_segment(segment([[point(1, 0.0, values)]])).batches
    assert repr(batch) == repr([["m", 1, 0.0, values]])


def test_other_files_and_newer_formats_are_refused() -> None:
    with pytest.raises(CrownError, match=r"x\.seg: not a log segment"):
        decode_segment(b"PK\x03\x04 and more", "x.seg")
    newer = bytearray(segment([]))
    newer[4] = 2
    with pytest.raises(CrownError, match=r"x\.seg: has format 2, .* reads 1; upgrade crown_exp"):
        decode_segment(bytes(newer), "x.seg")


def test_a_frame_that_is_whole_but_no_batch_is_an_error() -> None:
    import struct
    import zlib

    payload = b"not json"
    frame = struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    with pytest.raises(CrownError, match=r"x\.seg: damaged by its writer"):
        decode_segment(segment([]) + frame, "x.seg")
