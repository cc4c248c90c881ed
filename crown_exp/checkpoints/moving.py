"""Tensors copied to their places in host memory.

Between pieces of host memory the bytes are moved as they are, by a few threads of our own: torch's copy splits
every tensor over all its threads and waits for each, which on a busy machine takes several times a memcpy.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PIECE = 4 * 2**20
THREADS = min(4, os.cpu_count() or 1)
WORTH_A_THREAD = 32 * 2**20

Move = tuple[int, int, int]
"""(to, from, bytes): two addresses."""


def copy(tensors: list[Any], places: list[Any], pinned: bool) -> None:
    """Copy every tensor to its place, from whatever device, and wait until it is there.

    places: dense CPU tensors of the same dtypes and shapes. pinned: whether they lie in pinned memory.
    """
    moves: list[Move] = []
    rest: list[tuple[Any, Any]] = []
    for tensor, place in zip(tensors, places, strict=True):
        if is_plain(tensor, place):
            moves += pieces(place.data_ptr(), tensor.data_ptr(), tensor.nbytes)
        else:
            rest.append((tensor, place))
    if rest:
        start_copying([tensor for tensor, _ in rest], [place for _, place in rest], pinned)
    move_all(moves)
    for device in {tensor.device for tensor, _ in rest if tensor.device.type == "cuda"}:
        import torch

        torch.cuda.synchronize(device)


def is_plain(tensor: Any, place: Any) -> bool:
    """Whether a tensor is host memory whose bytes are those that its place is to have."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and not tensor.is_conj()
        and not tensor.is_neg()
        and (
            tensor.stride() == place.stride() or (tensor.is_contiguous() and place.is_contiguous())
        )
    )


def start_copying(tensors: list[Any], places: list[Any], pinned: bool) -> None:
    """Copy what has to be fetched, closed up or computed; into pinned memory it may still be under way."""
    import torch

    with torch.no_grad():
        torch._foreach_copy_(places, tensors, non_blocking=pinned)


def pieces(to: int, source: int, size: int) -> list[Move]:
    """One move as several that threads can share."""
    return [
        (to + start, source + start, min(PIECE, size - start)) for start in range(0, size, PIECE)
    ]


def move_all(moves: list[Move]) -> None:
    """Carry out moves, with more threads where that is worth their start."""
    if THREADS == 1 or sum(size for *_, size in moves) < WORTH_A_THREAD:
        move(moves)
        return
    with ThreadPoolExecutor(THREADS - 1, "snapshot") as threads:
        others = [threads.submit(move, moves[start::THREADS]) for start in range(1, THREADS)]
        move(moves[::THREADS])
        for other in others:
            other.result()


def move(moves: list[Move]) -> None:
    """Carry out moves; other threads run meanwhile."""
    for to, source, size in moves:
        ctypes.memmove(to, source, size)
