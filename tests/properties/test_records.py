"""Records come back as they went in, and a damaged one is one clear line."""

import json
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.errors import CrownError
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    JobRecord,
    ResultRecord,
    RunRecord,
    SpendingRecord,
    decode,
    encode,
)
from crown_exp.folder.records import Record

st.register_type_strategy(float, st.floats(allow_nan=False))  # nan is not equal to itself
calm = settings(deadline=None)
CLASSES = (RunRecord, JobRecord, AttemptRecord, EndRecord, ResultRecord, SpendingRecord)

words = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(words, json_values, max_size=3)
zones = st.sampled_from(
    [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))]
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1), timezones=zones)
KNOWN = {
    **dict.fromkeys(("created", "started", "ended", "since", "until"), moments),
    **dict.fromkeys(("numerics", "versions"), json_objects),
    **dict.fromkeys(("lineage", "changes"), st.none() | json_objects),
    "result": json_values,
    "process_started": st.none() | st.floats(allow_nan=False),
}


def records_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Records of every field's type; what is free is plain JSON."""
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    others = {name: st.from_type(hints[name]) for name in names if name not in KNOWN}
    return st.builds(cls, **{name: (KNOWN | others)[name] for name in names})


records = st.one_of([records_of(cls) for cls in CLASSES])


@calm
@given(records)
def test_a_record_comes_back(record: Record) -> None:
    data = encode(record)
    assert decode(type(record), data, "x.json") == record
    assert encode(record) == data


@calm
@given(records)
def test_bytes_are_for_people_and_tools(record: Record) -> None:
    data = encode(record)
    tree = json.loads(data)
    assert data.startswith(b'{\n  "format": 1,\n') and data.endswith(b"\n}\n")
    assert list(tree) == ["format", *(field.name for field in fields(record))]
    for field in fields(record):
        if isinstance(getattr(record, field.name), datetime):
            assert tree[field.name].endswith("Z")


@calm
@given(records, json_objects)
def test_unknown_keys_are_ignored(record: Record, more: dict[str, Any]) -> None:
    tree = {f"later_{key}": value for key, value in more.items()} | json.loads(encode(record))
    assert decode(type(record), json.dumps(tree).encode(), "x.json") == record


def has_no_default(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


@calm
@given(records, st.data())
def test_a_missing_field_is_named(record: Record, data: st.DataObject) -> None:
    tree = json.loads(encode(record))
    required = ["format", *(item.name for item in fields(record) if has_no_default(item))]
    del tree[name := data.draw(st.sampled_from(required))]
    with pytest.raises(CrownError, match=rf"^runs/r1/x\.json: damaged, {name} is missing$"):
        decode(type(record), json.dumps(tree).encode(), "runs/r1/x.json")


@calm
@given(records, st.data())
def test_any_value_in_any_field_is_read_or_refused_in_one_line(
    record: Record, data: st.DataObject
) -> None:
    tree = json.loads(encode(record))
    tree[data.draw(st.sampled_from(list(tree)))] = data.draw(json_values)
    try:
        decode(type(record), json.dumps(tree).encode(), "x.json")
    except CrownError as error:
        assert str(error).startswith("x.json: ") and "\n" not in str(error)


@calm
@given(st.sampled_from(CLASSES), st.binary(max_size=40) | json_values.map(json.dumps))
def test_garbage_is_one_clear_line(cls: type[Any], garbage: bytes | str) -> None:
    data = garbage if isinstance(garbage, bytes) else garbage.encode()
    with pytest.raises(CrownError, match=r"\Ax\.json: damaged, .*\Z"):
        decode(cls, data, "x.json")


def test_a_newer_format_is_refused() -> None:
    record = JobRecord("r1", 1, "local", datetime(2026, 11, 22, tzinfo=UTC), None, False)
    tree = json.loads(encode(record)) | {"format": 7}
    expected = r"^x\.json: has format 7, this crown_exp reads up to 1; upgrade crown_exp$"
    with pytest.raises(CrownError, match=expected):
        decode(JobRecord, json.dumps(tree).encode(), "x.json")
    # Even where the newer one has renamed what we look for.
    with pytest.raises(CrownError, match=expected):
        decode(JobRecord, b'{"format": 7}', "x.json")


def test_a_result_that_is_not_finite_is_kept() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    record = ResultRecord("r1", 1, 10, moment, {"loss": float("nan"), "best": float("-inf")})
    found = decode(ResultRecord, encode(record), "x.json").result
    assert repr(found) == "{'loss': nan, 'best': -inf}"


def test_a_result_of_before_pruning_was_known_is_read() -> None:
    tree = {"format": 1, "run": "r1", "attempt": 1, "step": 2, "result": None}
    tree["ended"] = "2026-11-22T00:00:00Z"
    assert decode(ResultRecord, json.dumps(tree).encode(), "x.json").pruned is False


def test_an_end_of_before_checkpoints_is_read() -> None:
    tree = {
        "format": 1,
        "run": "r1",
        "attempt": 1,
        "step": 2,
        "exit_code": 75,
        "reason": "",
        "error": None,
    }
    tree |= {"ended": "2026-11-22T00:00:00Z", "code": None}
    end = decode(EndRecord, json.dumps(tree).encode(), "x.json")
    assert (end.saved, end.again) == (None, False)
