from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from crown_exp.data.seeding import seeded


def draw() -> list[float]:
    """From every stream; normals first, as they leave the second of a pair behind."""
    normals = [np.random.standard_normal(), random.gauss(0, 1), torch.randn(1).item()]
    return [*normals, np.random.rand(), random.random(), torch.rand(1).item()]


def fresh(seed: int = 0) -> None:
    np.random.seed(seed)
    random.seed(seed)
    torch.manual_seed(seed)


def test_the_caller_s_streams_go_on_as_if_nothing_had_been() -> None:
    fresh()
    straight = [draw() for _ in range(6)]
    fresh()
    broken = []
    for key in range(6):  # draws leave half a pair of normals behind in every other turn
        broken.append(draw())
        with seeded(key):
            for _ in range(key):
                draw()
    assert broken == straight


def test_an_error_inside_restores_too() -> None:
    fresh()
    straight = draw()
    fresh()
    with pytest.raises(KeyError), seeded(3):
        draw()
        raise KeyError
    assert draw() == straight


def test_a_key_gives_its_numbers_whatever_came_before() -> None:
    with seeded(2**63 + 5):
        first = draw()
    fresh(99)
    np.random.standard_normal()
    random.gauss(0, 1)
    with seeded(2**63 + 5):
        assert draw() == first
    with seeded(2**63 + 6):
        assert draw()[4:] != first[4:]
    with seeded(2**62 + 2**63 + 5):
        assert draw()[3] != first[3]


def test_nested() -> None:
    with seeded(1):
        straight = [draw(), draw()]
    with seeded(1):
        outer = [draw()]
        with seeded(2):
            draw()
        outer.append(draw())
    assert outer == straight


def test_torch_and_numpy_do_not_draw_the_same_bits() -> None:
    with seeded(12345 << 32 | 54321):
        ours = torch.randint(2**31, (8,)).tolist()
        theirs = np.random.randint(2**31, size=8).tolist()
    assert not set(ours) & set(theirs)


def test_another_numpy_bit_generator_is_given_back() -> None:
    before = np.random.get_bit_generator()
    try:
        mine = np.random.PCG64(3)
        np.random.set_bit_generator(mine)
        with seeded(1):
            np.random.rand()
        assert np.random.get_bit_generator() is mine
    finally:
        np.random.set_bit_generator(before)


def test_the_key_can_seed_a_dataset_s_own_generator() -> None:
    before = torch.initial_seed()
    with seeded(2**63 + 77):
        assert torch.initial_seed() == 2**63 + 77
    assert torch.initial_seed() == before
