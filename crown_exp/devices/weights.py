"""A file of weights, mapped into memory: it is read where it lies, and only what is read is there."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from crown_exp.errors import TaskError

PIECE = 4 * 2**20
"""Bytes that are copied at a time."""

MADV_DONTNEED = 4


def open_weights(path: Path) -> dict[str, Tensor]:
    """Every tensor of a .safetensors file, or of what torch.save wrote of a state_dict, as a view of the file.

    Raises TaskError, in one line, for what is no such file, or not all of one.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise TaskError(f"weights={path}: {(error.strerror or str(error)).lower()}") from None
    if head.startswith(b"PK\x03\x04"):
        return checked(open_torch(path), path)
    if path.suffix == ".safetensors" or head[8:] == b"{":
        return open_safetensors(path)
    raise TaskError(f"weights={path}: expected a .safetensors file, or what torch.save writes")


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """Names and views."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise TaskError(f"weights={path}: not a whole .safetensors file ({error})") from None


def open_torch(path: Path) -> Any:
    """What torch.save wrote, tensors as views; nothing in it is executed."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError:
        raise TaskError(
            f"weights={path}: holds other things than tensors; save net.state_dict() alone"
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, OSError):
        raise TaskError(f"weights={path}: not a whole file of torch.save") from None


def checked(found: Any, path: Path) -> dict[str, Tensor]:
    """Names and tensors, and nothing else."""
    if not isinstance(found, Mapping):
        raise TaskError(f"weights={path}: holds a {type(found).__name__}; save net.state_dict()")
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others:
        raise TaskError(
            f"weights={path}: expected names and tensors, found {', '.join(others[:4])}; "
            "save net.state_dict() alone"
        )
    return dict(found)


def copy_mapped(view: Tensor, target: Tensor) -> None:
    """Copy a view of a file into a tensor piece by piece: no more of the file is in memory than one."""
    if not (view.is_contiguous() and target.is_contiguous()):
        target.copy_(view)
        forget(view)
        return
    for part, place in zip(pieces(view), pieces(target), strict=True):
        place.copy_(part)
        forget(part)


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Its elements in order, so many at a time that none of any type is over `PIECE` bytes."""
    return iter(torch.split(tensor.view(-1), PIECE // 8))


def forget(view: Tensor) -> None:
    """Let the kernel take back the pages that lie wholly within a view of a file; a later read finds them.

    Read pages count as this process's until the file is closed: a second copy of all weights, but for this.
    """
    start, length = view.data_ptr(), view.numel() * view.element_size()
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first and (advise := madvise()):
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


@cache
def madvise() -> Any:
    """The system call; None where there is none."""
    return getattr(ctypes.CDLL(None), "madvise", None) if hasattr(mmap, "MADV_DONTNEED") else None
