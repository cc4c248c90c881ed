"""Names there as names here: by their beginning, at a dot, the longest rule first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.checkpoints.renaming import (
    begins,
    common_end,
    fitting,
    joined,
    nearest,
    renamed,
    suggested,
)
from crown_exp.errors import ConfigError

PART = st.sampled_from(["net", "enc", "0", "1", "head", "weight", "bias"])
NAME = st.lists(PART, min_size=1, max_size=5).map(".".join)
NAMES = st.lists(NAME, unique=True, min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("rules", "name", "here"),
    [
        ({}, "net.enc.w", "net.enc.w"),
        ({"net": "model"}, "net.enc.w", "model.enc.w"),
        ({"ne": None, "net": "model"}, "net.enc.w", "model.enc.w"),
        ({"net": "model", "net.enc": "backbone"}, "net.enc.w", "backbone.w"),
        ({"enc": "body"}, "net.enc.w", "net.body.w"),
        ({"net.enc": ""}, "net.enc.w", "w"),
        ({"enc": ""}, "net.enc.w", "net.w"),
        ({"": "model"}, "net.enc.w", "model.net.enc.w"),
        ({".": "model"}, "net.enc.w", "model.net.enc.w"),
        ({"net": "."}, "net.enc.w", "enc.w"),
        ({0: "1"}, "net.0.w", "net.1.w"),
        ({0.1: "1"}, "net.0.1.w", "net.1.w"),
        ({"net": "a", "enc": "b"}, "net.enc.w", "net.b.w"),
        ({"net.enc.w": "net.v"}, "net.enc.w", "net.v"),
    ],
)
def test_a_rule_is_held_against_beginnings(
    rules: dict[str, str | None], name: str, here: str
) -> None:
    rules = {key: value for key, value in rules.items() if key != "ne"}
    assert renamed([name], rules).here == {name: here}


def test_a_rule_of_whole_names_is_not_held_against_inner_ones() -> None:
    names = ["enc.w", "net.enc.w"]
    assert renamed(names, {"enc": "body"}).here == {"enc.w": "body.w", "net.enc.w": "net.enc.w"}


def test_a_name_that_a_rule_made_wins_over_the_same_name() -> None:
    found = renamed(["net.w", "ema.w", "ema.n"], {"ema": "net"})
    assert found.here == {"ema.w": "net.w", "ema.n": "net.n"}
    assert found.left == ("net.w",)


def test_two_rules_that_make_one_name_and_rules_of_no_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"makes c\.w of both a\.w and b\.w"):
        renamed(["a.w", "b.w"], {"a": "c", "b": "c"})
    with pytest.raises(ConfigError, match=r"init_map\.encodr: .* did you mean encoder\?"):
        renamed(["net.encoder.w"], {"encodr": "c"})
    with pytest.raises(ConfigError, match=r"they begin with net, zoo, net\.zoo"):
        renamed(["net.zoo.w"], {"xylophone": "c"})


@given(NAMES, st.dictionaries(NAME, st.none() | NAME, max_size=4))
def test_every_name_is_renamed_once_or_left(names: list[str], rules: dict[str, str | None]) -> None:
    try:
        found = renamed(names, rules)
    except ConfigError:
        return
    assert sorted([*found.here, *found.left]) == sorted(names)
    assert len(set(found.here.values())) == len(found.here)  # no two become one
    touched = [
        name for name in names
        if any(begins(rule, name) or begins(rule, name.partition(".")[2]) for rule in rules)
    ]  # fmt: skip
    for name, here in found.here.items():
        assert name in touched or here == name


@given(NAMES)
def test_no_rule_changes_nothing_and_a_name_and_back_is_the_same(names: list[str]) -> None:
    assert renamed(names, {}).here == {name: name for name in names}
    there = renamed(names, {"": "box"}).here
    assert list(there.values()) == [f"box.{name}" for name in names]
    back = renamed(list(there.values()), {"box": ""}).here
    assert list(back.values()) == names


def test_bare_names_fit_with_or_without_the_tracked_one() -> None:
    places = ["0.weight", "0.bias"]
    whole = {"net.0.weight": "net.0.weight"}
    bare = {"0.weight": "0.weight", "0.bias": "0.bias"}
    assert fitting("net", places, whole, bare=True) == {"0.weight": "net.0.weight"}
    assert fitting("net", places, bare, bare=False) == {}
    assert fitting("net", places, bare, bare=True) == bare
    assert fitting("net", places, whole | bare, bare=True) == bare  # more of it fits


@given(NAME, NAME)
def test_the_rule_that_is_suggested_makes_one_name_of_the_other(ours: str, theirs: str) -> None:
    if not common_end(ours, theirs) or ours == theirs:
        return
    old, new = suggested(ours, theirs)
    assert renamed([theirs], {old: new}).here == {theirs: ours}


def test_the_nearest_have_most_of_their_ends_in_common() -> None:
    assert nearest(["net.0.weight", "net.1.bias"], ["a.bias", "b.0.weight"]) == (
        "net.0.weight", "b.0.weight",
    )  # fmt: skip
    assert nearest(["a"], ["b"]) is None
    assert joined("", "a", "", "b") == "a.b"
