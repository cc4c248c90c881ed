"""Whether products of float32 are computed in TF32: torch's switches for it, of which there are two sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Place = tuple[str, str]

TABLE: tuple[Place, ...] = (
    ("generic", "all"),
    *(("cuda", part) for part in ("all", "matmul", "conv", "rnn")),
    *(("mkldnn", part) for part in ("all", "matmul", "conv", "rnn")),
)
"""The places of `fp32_precision` (torch 2.9 and later), the general ones first: they overwrite the others."""


@contextmanager
def float32_in(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32, whatever was set before, and put back what was set before.

    Where the table contradicts the older switches they cannot even be read, and a convolution follows the
    table: so it is emptied.
    """
    conv = torch.backends.cudnn
    matmul_before = told(torch.get_float32_matmul_precision)
    conv_before = told(lambda: conv.allow_tf32)
    table = read_table()
    write_table(dict.fromkeys(table, "none"))
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    conv.allow_tf32 = tf32
    try:
        yield
    finally:
        write_table(dict.fromkeys(table, "none"))
        if matmul_before is not None:
            torch.set_float32_matmul_precision(matmul_before)
        if conv_before is not None:
            conv.allow_tf32 = conv_before
        write_table(table)


def told(switch: Callable[[], Any]) -> Any:
    """What a switch says; None if the table contradicts it."""
    try:
        return switch()
    except RuntimeError:
        return None


def read_table() -> dict[Place, str]:
    """What the table says; nothing for a torch without one."""
    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    return {place: read(*place) for place in TABLE} if read else {}


def write_table(table: Mapping[Place, str]) -> None:
    """Set the table's places, in their order."""
    for place, precision in table.items():
        torch._C._set_fp32_precision_setter(*place, precision)
