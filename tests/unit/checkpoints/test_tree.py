"""The tree of a state_dict: what may be in it, and what is the same."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.checkpoints.tree import copied, difference, flatten
from crown_exp.errors import TaskError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
TREES = st.recursive(
    LEAVES | st.lists(st.floats(width=32), max_size=3).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(-9, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


def test_every_leaf_has_a_path_that_can_be_read() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 1))
    tree = {
        "net": net.state_dict(), "state": {0: {"step": 3}}, "betas": (0.9, 0.95), "none": None,
        "empty": {}, "no": [], "odd name": True,
    }  # fmt: skip
    assert list(flatten(tree, "opt")) == [
        "opt.net['0.weight']", "opt.net['0.bias']", "opt.state[0].step", "opt.betas[0]", "opt.betas[1]",
        "opt.none", "opt.empty", "opt.no", "opt['odd name']",
    ]  # fmt: skip


@given(TREES)
def test_a_copy_is_the_same_and_shares_nothing(tree: Any) -> None:
    flat, copy = flatten(tree, "x"), copied(tree)
    assert difference(flat, flatten(copy, "x")) == ""
    assert type(copy) is type(tree)
    tensors = [
        value for value in flat.values() if isinstance(value, torch.Tensor) and value.numel()
    ]
    for value in tensors:
        value.fill_(12345.678)
    if tensors:
        assert difference(flatten(copy, "x"), flat)


@given(TREES, TREES)
def test_no_two_leaves_have_one_path(one: Any, other: Any) -> None:
    """A dict's key is never taken for another's, whatever dots and brackets are in it."""
    count = len(flatten(one, "x")) + len(flatten(other, "x"))
    assert len(flatten({"a": one, "b": other}, "x")) == count
    assert len(flatten([one, other], "x")) == count
    assert len(flatten({0: one, "0": other}, "x")) == count
    assert len(flatten({"a.b": one, "a": {"b": other}}, "x")) == count


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1, 2}, "opt.state[0].it is a set; .*: a sorted list holds the same"),
        (np.ones(2), "is a ndarray; .*: torch.from_numpy"),
        (np.int64(2), r"is a int64; .*: its .item\(\) is a number"),
        (b"12", "is a bytes; .*: torch.frombuffer"),
        (deque([1]), "is a deque; .*: a list holds the same"),
        (lambda: 1, "is a function; .*: keep its name instead"),
        (np.random.default_rng(0), "is a Generator; .*: keep its state"),
        (torch.Generator(), "is a Generator; .*: keep its state"),
        (random.Random(0), "is a Random; .*: keep its state"),
        (torch.nn.Linear(1, 1), r"is a Linear; .*: put its state_dict\(\) there"),
        (object(), "is a object; .*: make it anew in load_state_dict"),
        (1j, "is a complex"),
        (torch.ones(2, device="meta"), r"is a tensor without data \(meta\)"),
        (torch.ones(2).to_sparse(), "is a tensor of torch.sparse_coo"),
        ({None: 1}, "opt.state[0].it has the key None, a NoneType; keys are strings or whole numbers"),
        ({True: 1}, "has the key True, a bool"),
        ({(1, 2): 1}, r"has the key \(1, 2\), a tuple"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_stored_is_named(value: Any, words: str) -> None:
    with pytest.raises(TaskError, match=words.replace("[0]", r"\[0\]")) as raised:
        flatten({"state": {0: {"it": value}}}, "opt")
    assert "opt.state[0].it" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_tree_that_holds_itself() -> None:
    tree: list[Any] = []
    tree.append(tree)
    with pytest.raises(TaskError, match="nested too deep, or holds itself"):
        flatten(tree, "x")


def test_a_copy_has_plain_kinds() -> None:
    made = copied({"a": OrderedDict(b=1), "c": Counter({3: 2}), "d": np.float64(0.5)})
    assert [type(value) for value in made.values()] == [dict, dict, float]
    parameter = torch.nn.Parameter(torch.ones(1))
    copy = copied([parameter])[0]
    assert type(copy) is torch.Tensor
    assert not copy.requires_grad


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ({"a": 1}, {"a": 2}, "x.a was 1 and is 2"),
        ({"a": 1}, {}, "x.a is gone"),
        ({"a": 1}, {"a": 1, "b": 2}, "x.b was not there"),
        ({"a": 1}, {"a": True}, "x.a was 1 and is True"),
        ({"a": [1, 2]}, {"a": [1]}, "x.a[1] is gone"),
        ({"a": torch.ones(2)}, {"a": torch.zeros(2)}, "x.a has other values"),
        ({"a": torch.ones(2)}, {"a": torch.ones(3)}, "(2,) and is float32 of shape (3,)"),
        ({"a": torch.ones(2)}, {"a": torch.ones(2, dtype=torch.float64)}, "and is float64 of shape (2,)"),
        ({"a": torch.ones(2)}, {"a": 1.0}, "x.a was float32 of shape (2,) and is 1.0"),
        ({"a": torch.tensor(float("inf"))}, {"a": torch.tensor(3.4e38)}, "x.a has other values"),
        ({"a": "long" * 50}, {"a": ""}, "x.a was 'longlonglonglonglonglonglonglonglonglo… and is ''"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_the_first_difference_is_told(was: Any, now: Any, words: str) -> None:
    assert words in difference(flatten(was, "x"), flatten(now, "x"))


def test_what_is_no_difference() -> None:
    nan = float("nan")
    for one, other in [
        (nan, nan), (torch.tensor([nan, 1]), torch.tensor([nan, 1])), (0.5, np.float64(0.5)),
        (torch.ones(2, 3).T, torch.ones(3, 2)), (torch.tensor(True), torch.tensor(True)),
        (torch.ones(0), torch.ones(0)), (torch.tensor(1j), torch.tensor(1j)),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
    ]:  # fmt: skip
        assert difference(flatten([one], "x"), flatten([other], "x")) == ""
