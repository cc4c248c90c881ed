from __future__ import annotations

import re
from collections import OrderedDict, UserDict, defaultdict, deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from crown_exp.data.move import leading, move_to, pin, split
from crown_exp.errors import TaskError

META = torch.device("meta")  # a device every machine has


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Sample:
    image: torch.Tensor
    label: str
    made: int = field(default=0, init=False)


@dataclass(frozen=True, slots=True)
class Slotted:
    image: torch.Tensor


class Holder:
    def __init__(self, **inside: Any) -> None:
        self.__dict__.update(inside)


def ones(n: int = 4) -> torch.Tensor:
    return torch.ones(n, 2)


@pytest.mark.parametrize(
    ("batch", "reach"),
    [
        (ones(), lambda b: b),
        ([ones(), 1], lambda b: b[0]),
        ((ones(), None), lambda b: b[0]),
        ({"x": {"y": [ones()]}}, lambda b: b["x"]["y"][0]),
        (Pair("text", ones()), lambda b: b.right),
        (Sample(ones(), "cat"), lambda b: b.image),
        (Slotted(ones()), lambda b: b.image),
        (OrderedDict(x=ones()), lambda b: b["x"]),
        (defaultdict(list, x=ones()), lambda b: b["x"]),
        (UserDict(x=ones()), lambda b: b["x"]),
        (pack_sequence([ones(3), ones(2)]), lambda b: b.data),
    ],
)
def test_every_structure_moves_and_keeps_its_type(batch, reach) -> None:
    moved = move_to("meta")(batch)
    assert type(moved) is type(batch)
    assert reach(moved).device == META
    assert reach(batch).device == torch.device("cpu")


def test_what_is_no_tensor_passes() -> None:
    class Odd:
        pass

    rest = ["text", b"bytes", 1, 2.5, None, True, {1, 2}, np.ones(3), Odd(), deque([1]), int]
    moved = move_to(META)(rest)
    assert all(new is old for new, old in zip(moved, rest, strict=True))
    assert move_to(META)(torch.Size([2, 3])) == torch.Size([2, 3])


def test_fields_that_init_does_not_take_survive() -> None:
    sample = Sample(ones(), "cat")
    object.__setattr__(sample, "made", 7)
    moved = move_to("meta")(sample)
    assert (moved.label, moved.made) == ("cat", 7)


def test_dtype_is_for_floating_tensors() -> None:
    floats, ints = move_to("cpu", torch.float64)((torch.ones(2), torch.ones(2, dtype=torch.int32)))
    assert (floats.dtype, ints.dtype) == (torch.float64, torch.int32)


def test_tensors_that_are_there_are_not_copied() -> None:
    batch = {"x": ones()}
    assert move_to("cpu")(batch)["x"] is batch["x"]


@pytest.mark.parametrize(
    "hidden",
    [
        Holder(x=ones()),
        Holder(x=[{"y": ones()}]),
        {ones()},
        deque([ones()]),
        MappingProxyType({"x": ones()}),
        Holder(x=Holder(y=[{1: Holder(z=ones())}])),
        np.array([ones(), None], dtype=object),
    ],
)
def test_a_hidden_tensor_is_an_error(hidden) -> None:
    said = f'batch["image"][1]: {type(hidden).__name__} holds tensors'
    with pytest.raises(TaskError, match=re.escape(said)):
        move_to("cpu")({"image": [0, hidden]})


def test_objects_that_hold_each_other_are_looked_into_once() -> None:
    one = Holder(x=1)
    one.other = Holder(back=one, more=[one])
    assert move_to("cpu")([one])[0] is one


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (
            (tensor for tensor in [ones()]),
            "batch is a generator, which is read once; make it a list",
        ),
        (Pair(1, map(str, "ab")), "batch.right is a map, which is read once"),
        (
            Sample(ones(), iter("ab")),
            "batch.label is a str_ascii_iterator|batch.label is a str_iterator",
        ),
    ],
)
def test_what_can_be_read_once_is_an_error(batch, said) -> None:
    with pytest.raises(TaskError, match=said):
        move_to("cpu")(batch)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (ones().double(), "batch is float64, which mps does not compute in; make it float32"),
        ({"x": {3: [ones().double()]}}, r'batch\["x"\]\[3\]\[0\] is float64'),
        (Sample(ones().to(torch.complex128), ""), "batch.image is complex128.* make it complex64"),
        (UserDict(x=ones().double()), r'batch\["x"\] is float64'),
    ],
)
def test_numbers_that_mps_does_not_have(batch, said) -> None:
    """No such hardware: torch itself would fail over its absence, later."""
    with pytest.raises(TaskError, match=said):
        move_to("mps")(batch)


def test_a_cast_makes_them_fit() -> None:
    (moved,) = move_to("meta", torch.float32)([ones().double()])
    assert moved.dtype == torch.float32


def test_pinning_reaches_what_has_it() -> None:
    class Pinnable:
        def __init__(self) -> None:
            self.pinned = False

        def to(self, device: object) -> None: ...

        def pin_memory(self) -> Pinnable:
            self.pinned = True
            return self

    moved = pin({"x": [Pinnable(), "text"]})
    assert moved["x"][0].pinned
    assert moved["x"][1] == "text"


def test_split_cuts_nearly_equal_parts_in_order() -> None:
    x = torch.arange(10)
    parts = split({"x": x, "pair": Pair(x[:, None], "all")}, 4)
    assert [part["x"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    assert [part["x"].tolist() for part in parts] == [t.tolist() for t in x.tensor_split(4)]
    assert all(part["pair"].right == "all" for part in parts)
    assert [leading(part) for part in parts] == [3, 3, 2, 2]
    assert parts[2]["x"].data_ptr() == x[6:].data_ptr()


def test_split_cuts_texts_with_their_samples() -> None:
    first, second = split((ones(3), ["a", "b", "c"], ["of", "all"], ("x", "y", "z")), 2)
    assert first[1:] == (["a", "b"], ["of", "all"], ("x", "y"))
    assert second[1:] == (["c"], ["of", "all"], ("z",))


@dataclass
class Nested:
    pair: Pair
    batch: UserDict[str, torch.Tensor]


def test_split_cuts_every_structure() -> None:
    x = torch.arange(3)
    first, second = split(Nested(Pair(x, ({"x": x},)), UserDict(x=x)), 2)
    assert type(first.batch) is UserDict and type(first.pair) is Pair
    for part, expected in ((first, [0, 1]), (second, [2])):
        found = (part.pair.left, part.pair.right[0]["x"], part.batch["x"])
        assert [tensor.tolist() for tensor in found] == [expected] * 3


def test_one_part_is_the_batch() -> None:
    (only,) = split([ones(), ones()], 1)
    assert [tensor.shape for tensor in only] == [(4, 2), (4, 2)]


@pytest.mark.parametrize("parts", [0, -1, 5])
def test_a_number_of_parts_that_cannot_be(parts: int) -> None:
    with pytest.raises(TaskError, match=f"4 samples into {parts} parts"):
        split(ones(4), parts)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((ones(4), ones(3)), r"\(4, 2\), \(3, 2\)"),
        ((ones(4), torch.tensor(1.0)), r"\(4, 2\), \(\)"),
        (torch.tensor(1.0), r"first dimension: \(\)"),
        (["text"], r"without tensors \(list\)"),
        (pack_sequence([ones(3), ones(2)]), "must agree"),
        ([ones(4), Holder(x=ones())], "Holder holds tensors"),
    ],
)
def test_a_batch_that_cannot_be_split(batch, said) -> None:
    with pytest.raises(TaskError, match=said):
        split(batch, 2)
