"""Where each tensor lies in the one stream of bytes that a state is, and where packs begin.

Tensors begin at multiples of 64. Those that are not trained come first, and the first that is begins a new
pack: so their packs are the same from save to save, and are written once.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from crown_exp.checkpoints.tree import KEEPS
from crown_exp.errors import TaskError

ALIGNED = 64
PACK = 64 * 2**20
"""The most bytes of a pack."""

SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8, "complex128": 16,
}  # fmt: skip
"""Bytes of one element, by the name of its dtype."""


@dataclass(frozen=True)
class Placed:
    """A tensor in the stream. stride: in elements; None where it is that of a contiguous tensor."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    stride: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """How many bytes it has."""
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """Where all tensors lie, in the order in which they were met, and the sizes of the packs, in theirs."""

    tensors: tuple[Placed, ...]
    packs: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The length of the stream."""
        return sum(self.packs)


def lay_out(tensors: Sequence[Any], paths: Sequence[str], frozen: Container[int]) -> Layout:
    """Place the tensors. frozen: id() or data_ptr() of those not trained. Raises TaskError naming a path."""
    is_frozen = [id(item) in frozen or item.data_ptr() in frozen for item in tensors]
    offset, first_trained = 0, 0
    placed: dict[int, Placed] = {}
    for wanted in (True, False):
        first_trained = offset if not wanted else 0
        for number, tensor in enumerate(tensors):
            if is_frozen[number] is wanted:
                placed[number] = place(tensor, paths[number], offset)
                offset += aligned(placed[number].bytes)
    ordered = tuple(placed[number] for number in range(len(tensors)))
    return Layout(ordered, (*cut(first_trained), *cut(offset - first_trained)))


def place(tensor: Any, path: str, offset: int) -> Placed:
    """One tensor at an offset. Raises TaskError if its kind of numbers cannot be stored."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in SIZES:
        raise TaskError(f"{path} is a tensor of {dtype}; {KEEPS}, of torch's plain dtypes")
    stride = None if tensor.is_contiguous() else dense_stride(tensor)
    return Placed(path, dtype, tuple(tensor.shape), offset, stride)


def dense_stride(tensor: Any) -> tuple[int, ...] | None:
    """The stride of a tensor that is not contiguous; None if it has gaps or overlaps, and is closed up."""
    import torch

    like = torch.empty_like(tensor, device="meta", memory_format=torch.preserve_format)
    return None if like.is_contiguous() else tuple(like.stride())


def aligned(size: int) -> int:
    """`size`, rounded up to where the next tensor may begin."""
    return -(-size // ALIGNED) * ALIGNED


def cut(size: int) -> list[int]:
    """The sizes of the packs that hold `size` bytes."""
    whole, rest = divmod(size, PACK)
    return [PACK] * whole + [rest] * (rest > 0)
