"""Changes against a config: told by dotted key, and put back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.changes import changed, changes_of, merged, same

KEYS = st.sampled_from(["a", "b", "c", "d.e", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 1) | st.text(max_size=2)
    | st.just(float("nan")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CONFIGS = st.fixed_dictionaries({"one": VALUES, "two": VALUES})


@given(CONFIGS, CONFIGS)
def test_what_was_changed_makes_the_new_of_the_old(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    before = copy.deepcopy(old)
    changes = changes_of(old, new)
    assert same(changed(old, changes), new)
    assert same(old, before)
    assert bool(changes) != same(old, new)


@given(CONFIGS, CONFIGS, CONFIGS)
def test_changes_upon_changes(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    later = changed(changed(a, changes_of(a, b)), changes_of(b, c))
    assert same(later, c)
    assert same(changed(a, changes_of(a, later)), c)
    assert same(changed(a, merged(changes_of(a, b), changes_of(b, c))), c)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a.c": 3}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": {"d": 3}}}, {"a.c": {"d": 3}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "b.c": 2}}, {"a": {"x": 1, "b.c": 2}}),
        ({"a": True}, {"a": 1}, {"a": 1}),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"a": {"b": {}}}, {"a": {"b": {}}}, {}),
    ],
)
def test_how_changes_are_told(
    old: dict[str, Any], new: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert changes_of(old, new) == expected
