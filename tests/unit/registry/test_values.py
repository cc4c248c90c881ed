"""Trees as rows of plain values."""

import math
from datetime import date
from typing import Any

import pytest

from crown_exp.registry.keys import LONGEST, kept, key_id, key_row
from crown_exp.registry.values import Value, flatten


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (0.003, ("float", "0.003", 0.003)),
        (64, ("int", "64", 64.0)),
        (True, ("bool", "true", None)),
        (None, ("null", "null", None)),
        ("adamw", ("str", "adamw", None)),
        ([64, 64], ("list", "[64, 64]", None)),
        ({}, ("dict", "{}", None)),
        (math.nan, ("float", ".nan", None)),
        (-math.inf, ("float", "-.inf", -math.inf)),
        (date(2026, 11, 22), ("str", "2026-11-22", None)),
        ([{"a": date(2026, 11, 22)}], ("list", '[{"a": "2026-11-22"}]', None)),
    ],
)
def test_a_value(item: Any, value: tuple[str, str, float | None]) -> None:
    assert flatten({"a": {"b": item}}) == {"a.b": Value(*value)}


def test_a_result_that_is_no_mapping_goes_by_its_own_name() -> None:
    assert flatten(0.5) == {"result": Value("float", "0.5", 0.5)}
    assert flatten([1]) == {"result": Value("list", "[1]", None)}


def test_an_integer_beyond_what_a_float_holds_is_text() -> None:
    (found,) = flatten({"a": 10**400}).values()
    assert (found.type, found.num) == ("int", None) and found.text.startswith("1000")
    (found,) = flatten({"a": 10**5000}).values()
    assert found.num is None


def test_long_texts_that_differ_stay_different() -> None:
    one, other = (flatten({"a": "x" * 10_000_000 + end})["a"].text for end in "ab")
    assert one != other and len(one) <= 4000


def test_the_same_name_has_the_same_number_everywhere() -> None:
    """What is in databases rests on it."""
    assert key_id("metric", "loss") == 8933054588876814147
    assert key_id("param", "loss") != key_id("metric", "loss")
    assert 0 <= key_id("metric", "🎉") < 2**63


def test_long_names_that_differ_stay_different() -> None:
    one, other = ("é" * 5000 + end for end in "ab")
    assert kept(one) != kept(other)
    assert len(kept(one)) == LONGEST and kept(kept(one)) == kept(one)
    assert key_id("metric", one) == key_id("metric", kept(one)) != key_id("metric", other)


def test_a_leaf_is_what_follows_the_last_dot_except_of_a_metric() -> None:
    assert key_row("param", "optimizer.lr")[2:] == ("optimizer.lr", "lr")
    assert key_row("metric", "val.loss")[2:] == ("val.loss", "val.loss")
