"""What is saved comes back to the bit, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.checkpoints import Saved
from crown_exp.checkpoints.layout import ALIGNED
from crown_exp.storage import Portal
from tests.checkpoint_states import STATES, attempt, memory_store, same, saved

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@given(STATES)
@settings(max_examples=300, deadline=None)
def test_what_is_saved_comes_back(portal: Portal, state: Any) -> None:
    blobs = memory_store()
    outcome = saved(attempt(portal, blobs), 3, state, metrics={"loss": 0.1})
    assert isinstance(outcome, Saved)
    restored = attempt(portal, blobs, 2).restore()
    assert restored is not None
    assert same(state, restored.state)
    assert (restored.step, restored.attempt, restored.damaged) == (3, 1, ())
    assert restored.metrics == {"loss": 0.1}


@given(st.lists(STATES, min_size=2, max_size=4))
@settings(max_examples=80, deadline=None)
def test_one_buffer_holds_one_state_after_another(portal: Portal, states: list[Any]) -> None:
    """They grow, shrink, change: what was there before is never seen in what comes after."""
    blobs = memory_store()
    checkpoints = attempt(portal, blobs)
    for step, state in enumerate(states, 1):
        assert isinstance(saved(checkpoints, step, state), Saved)
        restored = attempt(portal, blobs, 2).restore()
        assert restored is not None and restored.step == step
        assert same(state, restored.state)


@given(STATES, STATES)
@settings(max_examples=80, deadline=None)
def test_equal_states_are_equal_bytes(portal: Portal, state: Any, other: Any) -> None:
    """Also when the buffer held something else in between: only what changed is written."""
    checkpoints = attempt(portal, memory_store())
    first = saved(checkpoints, 1, state)
    saved(checkpoints, 2, other)
    again = saved(attempt(portal, memory_store()), 3, state)
    third = saved(checkpoints, 3, state)
    assert (first.bytes, first.written) == (again.bytes, again.written)
    assert third.bytes == first.bytes and third.written in (0, first.written)


@given(STATES)
@settings(max_examples=80, deadline=None)
def test_a_tied_tensor_is_stored_once(portal: Portal, state: Any) -> None:
    weight = torch.arange(1000.0)
    one = saved(attempt(portal, memory_store()), 1, [state, weight])
    blobs = memory_store()
    two = saved(
        attempt(portal, blobs), 1, [state, weight, {"tied": weight, "view": weight.view(-1)}]
    )
    assert two.bytes - one.bytes < ALIGNED
    restored = attempt(portal, blobs, 2).restore()
    assert restored is not None
    assert restored.state[1].data_ptr() == restored.state[2]["tied"].data_ptr()
