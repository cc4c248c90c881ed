"""What a table of runs has columns for."""

from __future__ import annotations

from crown_exp.face.frames import differences, results
from crown_exp.registry.values import leaves


def test_a_tree_by_dotted_names() -> None:
    tree = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "empty": {}, "none": None}
    assert dict(leaves(tree)) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "empty": {}, "none": None}


def test_only_what_differs() -> None:
    trees = [
        {"a": 1, "b": [1], "c": True},
        {"a": 1, "b": [2], "c": 1},
        {"a": 1, "b": [1], "d": None},
    ]
    assert differences(trees) == {
        "b": [[1], [2], [1]],
        "c": [True, 1, None],
        "d": [None, None, None],
    }
    assert differences(trees[:1]) == differences([]) == {}


def test_results_by_name() -> None:
    assert results(None) == {}
    assert results(0.5) == {"result": 0.5}
    assert results({"a": {"b": 1}, "c": [1]}) == {"a.b": 1, "c": [1]}
