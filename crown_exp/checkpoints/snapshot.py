"""One copy of all tensors into the buffer, and tensors over what lies there."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from crown_exp.checkpoints.buffer import Buffer
from crown_exp.checkpoints.layout import Layout, Placed, lay_out
from crown_exp.checkpoints.moving import copy
from crown_exp.checkpoints.skeleton import Taken, take_apart


@dataclass(frozen=True)
class Snapshot:
    """A state as it was: its skeleton, and where its tensors lie in the buffer."""

    tree: Any
    layout: Layout


class Camera:
    """Takes snapshots into one buffer. Between two of equal form it keeps the places to copy to."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.layout: Layout | None = None
        self.places: list[Any] = []

    def take(self, state: Any, frozen: Container[int] = ()) -> Snapshot:
        """Copy a state; the snapshot before is gone. Raises TaskError naming what cannot be stored."""
        taken = Taken()
        tree = take_apart(state, "state", taken)
        layout = lay_out(taken.tensors, taken.paths, frozen)
        if taken.tensors:
            self.prepare(layout)
            copy(taken.tensors, self.places, self.buffer.pin)
        return Snapshot(tree, layout)

    def prepare(self, layout: Layout) -> None:
        """Have the places to copy to."""
        if layout == self.layout:
            return
        self.forget()
        self.buffer.ready(layout.bytes, to_save=True)
        self.buffer.keep_from_children()
        whole = self.buffer.tensor()
        for start, end in gaps(layout):
            whole[start:end].zero_()  # equal states are equal bytes
        self.places = [over(whole, item) for item in layout.tensors]
        self.layout = layout

    def forget(self) -> None:
        """Let the places go: the buffer is about to be used for something else, or replaced."""
        self.layout, self.places = None, []


def gaps(layout: Layout) -> list[tuple[int, int]]:
    """Where no tensor lies, as (start, end)."""
    edges = sorted((item.offset, item.offset + item.bytes) for item in layout.tensors)
    starts = [0, *(end for _, end in edges)]
    ends = [*(start for start, _ in edges), layout.bytes]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def over(whole: Any, item: Placed) -> Any:
    """The tensor that lies in the stream `whole` at its place."""
    import torch

    dtype = getattr(torch, item.dtype)
    if not item.bytes:
        return torch.empty(item.shape, dtype=dtype)
    flat = whole[item.offset : item.offset + item.bytes].view(dtype)
    return (
        flat.view(item.shape) if item.stride is None else flat.as_strided(item.shape, item.stride)
    )
