"""Random numbers of its own for a stretch of code; the caller's streams stay as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import set_bit_generator

exchanging = False
"""Whether generators are being exchanged: a stop that is raised meanwhile would leave half of them so."""

_numpy: Any = np.random.mtrand._rand  # np.random.rand and the others are its methods
# A bit generator, as far as RandomState.get_state and set_state look at it.
_blank = SimpleNamespace(state={"bit_generator": "", "state": None})
_spare: list[np.random.MT19937] = []  # as many as `seeded` was ever nested deep


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Seeds torch (CPU), `random` and numpy's global generator from 64 bits; restores all at exit.

    About 25 µs, where `torch.random.fork_rng`, `torch.manual_seed` and numpy's `get_state` and
    `set_state` take over 200. `torch.manual_seed` is also wrong here: it reseeds the GPUs, which
    are the caller's. torch and numpy run the same Mersenne Twister on a 32-bit seed, so each gets
    its own half of the key: with the same half they would draw the same numbers.
    """
    global exchanging
    generator = torch.default_generator
    exchanging = True
    torch_state, python_state, numpy_state = generator.get_state(), random.getstate(), _lend()
    try:
        generator.manual_seed(key)
        random.seed(key)
        np.random.seed(key >> 32)
        exchanging = False
        try:
            yield
        finally:
            exchanging = True
    finally:
        exchanging = True  # once more: a signal may come before the first
        _take_back(numpy_state)
        random.setstate(python_state)
        generator.set_state(torch_state)
        exchanging = False


def _lend() -> tuple[Any, ...]:
    """Puts another bit generator under numpy's global functions; returns what `_take_back` needs.

    Copying a Mersenne Twister out and in is slow, changing the generator is not; but a change
    forgets the second number of the last pair of normals, which RandomState itself holds. It can
    be had from `get_state` alone, which is slow only in what it asks of the bit generator: for
    that call there is none.
    """
    own = _numpy._bit_generator
    _numpy._bit_generator = _blank
    state = _numpy.get_state(legacy=False)
    lent = _spare.pop() if _spare else np.random.MT19937(0)
    set_bit_generator(lent)
    return own, state["has_gauss"], state["gauss"], lent


def _take_back(taken: tuple[Any, ...]) -> None:
    own, has_gauss, gauss, lent = taken
    set_bit_generator(own)
    if has_gauss:
        _numpy._bit_generator = _blank
        _numpy.set_state(_blank.state | {"has_gauss": has_gauss, "gauss": gauss})
        _numpy._bit_generator = own
    _spare.append(lent)
