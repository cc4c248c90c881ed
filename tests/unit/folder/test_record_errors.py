"""What a damaged record says."""

import json
from typing import Any

import pytest

from crown_exp.errors import CrownError
from crown_exp.folder import EndRecord, RunRecord, decode

RUN: dict[str, Any] = {
    "format": 1,
    "id": "r261122-k7f3q2",
    "name": "digits lr=0.1",
    "experiment": None,
    "user": "ada",
    "created": "2026-11-22T10:04:05.123456Z",
    "task": "experiments.digits.train",
    "signature": "v1:00",
    "overrides": ["lr=0.1"],
    "tags": [],
    "seed": 0,
    "compute": "here",
    "sweep": {"id": "s1", "number": 7, "of": 40},
    "lineage": None,
    "code": {"commit": None, "dirty": True, "snapshot": None},
    "bound": ["model"],
}


def complaint(**changed: Any) -> str:
    with pytest.raises(CrownError) as caught:
        decode(RunRecord, json.dumps(RUN | changed).encode(), "runs/r1/run.json")
    return str(caught.value)


def test_the_record_itself_is_fine() -> None:
    assert decode(RunRecord, json.dumps(RUN).encode(), "run.json").sweep == RUN["sweep"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"seed": "1"}, 'seed must be an integer, not "1"'),
        ({"seed": True}, "seed must be an integer, not true"),
        ({"seed": 1.5}, "seed must be an integer, not 1.5"),
        ({"name": None}, "name must be a string, not null"),
        ({"tags": "x"}, 'tags must be a list, not "x"'),
        ({"tags": ["x", 1]}, "tags[1] must be a string, not 1"),
        ({"lineage": []}, "lineage must be an object, not a list"),
        ({"sweep": {"id": "s1", "of": None}}, "sweep.number is missing"),
        ({"code": RUN["code"] | {"dirty": 1}}, "code.dirty must be true or false, not 1"),
        ({"created": "yesterday"}, "created must be a time in ISO 8601 with a zone"),
        ({"created": "2026-11-22T10:04:05"}, "created must be a time in ISO 8601 with a zone"),
        (
            {"created": "0001-01-01T00:00:00+14:00"},
            "created must be a time in ISO 8601 with a zone",
        ),
        ({"format": "1"}, 'format must be an integer, not "1"'),
    ],
)
def test_says_what_is_wrong_and_what_was_expected(changed: dict[str, Any], expected: str) -> None:
    assert complaint(**changed) == f"runs/r1/run.json: damaged, {expected}"


def test_what_is_not_json() -> None:
    for data in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(CrownError, match=r"^x\.json: damaged, not JSON"):
            decode(EndRecord, data, "x.json")
