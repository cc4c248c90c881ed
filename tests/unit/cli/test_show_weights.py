"""`show` of a run that began with the weights of another, or of a file."""

from __future__ import annotations

from typing import Any

from crown_exp.cli.lineage import lineage_text
from crown_exp.folder.segment import event
from tests.unit.cli.record import World
from tests.unit.registry.folders import T0, make_run

ONE, TWO = "r261122-aaaaaa", "r261122-abbbbb"


def test_it_tells_from_where_and_how_much(here: World) -> None:
    lineage: dict[str, Any] = {"init_from": {"run": ONE, "step": 60, "attempt": 1, "manifest": "f"}}
    run = here.call(make_run, here.blobs, TWO, lineage=lineage)
    here.call(run.attempt)
    told = {"matched": 34, "of": 36, "missing": ["net.head.weight", "net.head.bias"]}
    here.call(run.log, [[event(T0.timestamp(), "initialized", told)]], 1)
    lines = here.out("show", "abb")
    assert f"  lineage    weights from {ONE}@60: 34 of 36 tensors" in lines
    assert not any("initialized" in line for line in lines)
    assert here.json("show", "abb")["lineage"] == lineage


def test_words_for_all_that_may_be_recorded() -> None:
    assert lineage_text(None) == ""
    there = {"run": ONE, "step": 60, "store": "s3://b/p"}
    assert lineage_text({"init_from": there}) == f"weights from s3://b/p/runs/{ONE}@60"
    file = {"file": "/data/net.pt", "sha256": "0123456789abcdef"}
    assert lineage_text({"init_from": file}) == "weights from /data/net.pt (sha256 0123456789ab)"
    assert lineage_text({"fork": {"run": ONE, "step": None}}) == f"forked from {ONE}@?"
    for strange in ({"init_from": 3}, {"init_from": {}}, {"later": 1}):
        assert lineage_text(strange).startswith("{")
