"""Random generators: what is drawn after a restore is what was drawn after the capture."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.checkpoints.tree import copied, flatten
from crown_exp.errors import TaskError
from crown_exp.runner.random_state import capture, restore

DRAWS: dict[str, Callable[[], Any]] = {
    "python": random.random,
    "python gauss": lambda: random.gauss(0, 1),  # two are made, one is kept for the next call
    "python bits": lambda: random.getrandbits(70),
    "numpy": lambda: np.random.rand(3).tolist(),
    "numpy gauss": np.random.standard_normal,
    "numpy legacy gauss": np.random.randn,
    "numpy integers": lambda: np.random.randint(0, 9, 5).tolist(),
    "torch": lambda: torch.rand(3).tolist(),
    "torch normal": lambda: torch.randn(1).item(),
    "torch many": lambda: torch.randn(33).tolist(),
    "torch permutation": lambda: torch.randperm(7).tolist(),
    "torch double": lambda: torch.randn(1, dtype=torch.float64).item(),
}
draws = st.lists(st.sampled_from(sorted(DRAWS)), max_size=12)


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """Other tests shall not feel it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    np.random.set_bit_generator(np.random.MT19937())
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def drawn(names: list[str]) -> list[Any]:
    return [DRAWS[name]() for name in names]


@given(before=draws, between=draws, after=draws, seed=st.integers(0, 2**32 - 1))
def test_after_a_restore_the_same_is_drawn(
    before: list[str], between: list[str], after: list[str], seed: int
) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    drawn(before)
    state = copied(capture())
    assert flatten(state, "random")
    first = drawn(after)
    drawn(between)
    assert restore(state) == []
    assert drawn(after) == first
    restore(state)  # the state was not changed by drawing
    assert drawn(after) == first


def test_a_capture_draws_nothing_and_is_a_copy() -> None:
    state = capture()
    first = copied(state)
    again = capture()
    drawn(sorted(DRAWS) * 100)
    for one in (state, again):
        assert all(
            torch.equal(was, now) if isinstance(was, torch.Tensor) else was == now
            for was, now in zip(flatten(first, "").values(), flatten(one, "").values(), strict=True)
        )


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"])
def test_another_bit_generator_of_numpy(kind: str) -> None:
    np.random.set_bit_generator(getattr(np.random, kind)(5))
    np.random.standard_normal()
    np.random.randint(0, 9, dtype=np.uint32)  # half of a word is kept for the next
    state = copied(capture())
    first = np.random.standard_normal(5).tolist(), np.random.randint(0, 99, 5).tolist()
    np.random.set_bit_generator(np.random.MT19937(1))
    restore(state)
    again = np.random.standard_normal(5).tolist(), np.random.randint(0, 99, 5).tolist()
    assert again == first


def test_a_bit_generator_that_is_not_numpys_is_not_made_by_name() -> None:
    state = capture()
    state["numpy"]["bit_generator"] = "default_rng"
    with pytest.raises(TaskError, match="was a default_rng when it was saved; set it before"):
        restore(state)


def test_devices_that_this_machine_lacks_are_told() -> None:
    here = torch.cuda.device_count()
    state = capture() | {"cuda": [torch.zeros(16, dtype=torch.uint8)] * (here + 2)}
    assert restore(state) == [
        f"the random generator of cuda:{number} was not restored: this machine has no such device"
        for number in (here, here + 1)
    ]


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has the device")
def test_a_mac_that_is_none_is_told() -> None:
    (line,) = restore(capture() | {"mps": torch.zeros(44, dtype=torch.uint8)})
    assert line.startswith("the random generator of mps was not restored")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_draws_the_same() -> None:
    for _ in range(3):
        torch.randn(5, device="cuda")
    state = copied(capture())
    first = torch.randn(5, device="cuda").tolist()
    torch.randn(7, device="cuda")
    restore(state)
    assert torch.randn(5, device="cuda").tolist() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_seed_noted_before_cuda_was_used_does_not_win() -> None:
    program = """
import torch
from crown_exp.runner.random_state import capture, restore
torch.manual_seed(1)
five = torch.Generator("cuda").manual_seed(5)
restore(capture() | {"cuda": [five.get_state()]})
print(torch.equal(torch.rand(9, device="cuda"), torch.rand(9, device="cuda", generator=five)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
def test_mps_draws_the_same() -> None:
    for _ in range(3):
        torch.randn(5, device="mps")
    state = copied(capture())
    first = torch.randn(5, device="mps").tolist()
    torch.randn(7, device="mps")
    restore(state)
    assert torch.randn(5, device="mps").tolist() == first


WITHOUT = """
import json, random, sys
from crown_exp.runner.random_state import capture, restore
random.seed(3); random.gauss(0, 1)
state = json.loads(json.dumps(capture()))
first = random.gauss(0, 1), random.random()
random.seed(9)
restore(state)
again = random.gauss(0, 1), random.random()
print(json.dumps([list(state), first == again, "numpy" in sys.modules, "torch" in sys.modules]))
"""


def test_what_is_not_imported_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert json.loads(done.stdout or done.stderr) == [["python"], True, False, False]


NUMPY_ALONE = """
import json, sys
import numpy as np
from crown_exp.runner.random_state import capture, restore
np.random.seed(3); np.random.randn()
state = json.loads(json.dumps(capture()))
first = np.random.randn(), np.random.rand()
np.random.seed(9)
restore(state)
print(json.dumps([list(state), first == (np.random.randn(), np.random.rand()), "torch" in sys.modules]))
"""


def test_numpy_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", NUMPY_ALONE], capture_output=True, text=True)
    assert json.loads(done.stdout or done.stderr) == [["python", "numpy"], True, False]


def test_lists_and_tensors_are_both_understood() -> None:
    """A checkpoint of a process without torch, in one that has it."""
    state = capture()
    first = drawn(["python", "numpy", "numpy gauss"])
    state["python"]["words"] = state["python"]["words"].tolist()
    state["numpy"]["state"]["key"] = state["numpy"]["state"]["key"].tolist()
    del state["torch"]
    restore(state)
    assert drawn(["python", "numpy", "numpy gauss"]) == first
