"""Saving behind the caller, and restoring."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch

from crown_exp.checkpoints import Keep, Saved, Unsaved
from crown_exp.errors import StoreError, TaskError
from crown_exp.folder.records import Damaged
from crown_exp.storage import Portal
from tests.checkpoint_states import (
    PATHS,
    FailingStore,
    attempt,
    begin,
    contents,
    listed,
    memory_store,
    same,
    saved,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def test_a_run_without_checkpoints(portal: Portal) -> None:
    checkpoints = attempt(portal, memory_store())
    assert checkpoints.restore() is None
    assert (checkpoints.saved, checkpoints.busy, checkpoints.outcome()) == (None, False, None)
    checkpoints.wait()


def test_packs_of_a_first_save_that_was_killed_are_no_checkpoint(portal: Portal) -> None:
    blobs = memory_store()
    dying = FailingStore(blobs, at=1, only="checkpoints/")
    assert isinstance(saved(attempt(portal, dying), 1, torch.ones(3)), Unsaved)  # type: ignore[arg-type]
    assert len(listed(portal, blobs)) == 1
    assert attempt(portal, blobs, 2).restore() is None


def test_markers_alone_are_a_refusal(portal: Portal) -> None:
    blobs = memory_store()
    portal.call(blobs.put, PATHS.damaged(1, 5), b"x")
    with pytest.raises(Damaged, match="has 1 checkpoint in"):
        attempt(portal, blobs, 2).restore()


def test_what_changes_after_save_returned_is_not_in_it(portal: Portal) -> None:
    blobs, gate = memory_store(), threading.Event()
    checkpoints = attempt(portal, blobs, before_commit=lambda: gate.wait(60) and None)
    weight, note = torch.zeros(1000), ["then"]
    state = {"weight": weight, "note": note}
    stall = checkpoints.save(1, state)
    weight.fill_(7.0)
    note.append("now")
    state["more"] = torch.ones(1)
    assert checkpoints.busy and checkpoints.outcome() is None and checkpoints.saved is None
    gate.set()
    checkpoints.wait()
    outcome = checkpoints.outcome()
    assert isinstance(outcome, Saved) and outcome.seconds >= outcome.stall == stall > 0
    assert checkpoints.outcome() is None and not checkpoints.busy
    restored = attempt(portal, blobs, 2).restore()
    assert restored is not None
    assert same({"weight": torch.zeros(1000), "note": ["then"]}, restored.state)


def test_a_save_waits_for_the_one_in_flight(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer is its own until it is durable."""
    blobs, gate, opening = memory_store(), threading.Event(), list[threading.Timer]()

    def waited_for(flights: Any) -> Any:
        """The save goes on some time after another has begun to wait for it."""
        if not opening:
            opening.append(threading.Timer(0.1, gate.set))
            opening[0].start()
        return wait(flights)

    monkeypatch.setattr("crown_exp.checkpoints.checkpoints.wait", waited_for)
    checkpoints = attempt(portal, blobs, before_commit=lambda: gate.wait(60) and None)
    checkpoints.save(1, torch.full((1000,), 1.0))
    assert checkpoints.save(2, torch.full((1000,), 2.0)) >= 0.05
    assert gate.is_set()
    checkpoints.wait()
    assert [outcome.step for outcome in checkpoints.outcomes()] == [1, 2]
    assert len(contents(portal, blobs)) == 4
    for step in (2, 1):
        restored = attempt(portal, blobs, 2).restore()
        assert restored is not None and same(torch.full((1000,), float(step)), restored.state)
        portal.call(blobs.delete, PATHS.checkpoint(1, step))


def test_before_commit_comes_after_the_packs_and_can_refuse(portal: Portal) -> None:
    blobs = memory_store()
    seen: list[Any] = []

    def refuse() -> None:
        seen.extend(listed(portal, blobs))
        seen.append(threading.current_thread())
        raise StoreError("the log cannot be written")

    checkpoints = attempt(portal, blobs, before_commit=refuse)
    assert saved(checkpoints, 1, torch.ones(3)) == Unsaved(1, "the log cannot be written")
    assert seen[0].startswith("packs/") and len(seen) == 2
    assert seen[1] is not threading.main_thread()
    assert not [name for name in listed(portal, blobs) if name.startswith("checkpoints/")]


def test_what_cannot_be_stored_is_named_and_harms_nothing(portal: Portal) -> None:
    blobs = memory_store()
    checkpoints = attempt(portal, blobs)
    saved(checkpoints, 1, torch.ones(3))
    for bad in ({"opt": {"state": {0: object()}}}, [{1.5: 2}], torch.ones(2).to_sparse()):
        with pytest.raises(TaskError, match=r"^state"):
            checkpoints.save(2, bad)
        assert not checkpoints.busy
    assert isinstance(saved(checkpoints, 3, torch.ones(3)), Saved)


def test_what_does_not_change_is_written_once(portal: Portal) -> None:
    blobs = memory_store()
    checkpoints = attempt(portal, blobs)
    backbone, head = torch.arange(10_000.0), torch.zeros(10)
    state = {"head": head, "backbone": backbone}
    first = saved(checkpoints, 1, state, frozen={backbone.data_ptr()})
    head += 1
    second = saved(checkpoints, 2, state, frozen={backbone.data_ptr()})
    assert first.written == first.bytes == second.bytes > 40_000
    assert second.written == 64
    new = attempt(portal, blobs, 2)
    new.restore()
    assert saved(new, 2, state, frozen={id(backbone)}).written == 0  # verified when it was restored
    blind = attempt(portal, blobs, 3)
    assert (
        saved(blind, 2, state, frozen={id(backbone)}).written == first.bytes
    )  # not known to be right
    (pack,) = [path for path, data in contents(portal, blobs).items() if len(data) == 40_000]
    portal.call(blobs.delete, pack)
    assert saved(blind, 3, state, frozen={id(backbone)}).written == 40_000  # it is looked for first


def test_one_step_saved_twice(portal: Portal) -> None:
    checkpoints = attempt(portal, memory_store())
    assert isinstance(saved(checkpoints, 1, torch.ones(3)), Saved)
    assert isinstance(saved(checkpoints, 1, torch.ones(3)), Saved)
    outcome = saved(checkpoints, 1, torch.zeros(3))
    assert isinstance(outcome, Unsaved) and "000001-000000000001.json exists" in outcome.why


def test_tensors_that_are_kept_are_theirs_who_keep_them(portal: Portal) -> None:
    """torch's optimizers keep the very tensors that load_state_dict is given."""
    blobs = memory_store()
    saved(attempt(portal, blobs), 1, {"kept": torch.arange(5000), "copied": torch.ones(5000)})
    checkpoints = attempt(portal, blobs, 2)
    restored = checkpoints.restore()
    assert restored is not None
    kept = restored.state["kept"]
    del restored
    for step in (2, 3):
        saved(checkpoints, step, {"other": torch.full((12_000,), step), "kept": kept})
    assert torch.equal(kept, torch.arange(5000))
    again = attempt(portal, blobs, 3).restore()
    assert again is not None and torch.equal(again.state["kept"], kept)


def test_memory_that_nobody_keeps_is_used_again(portal: Portal) -> None:
    blobs = memory_store()
    saved(attempt(portal, blobs), 1, torch.arange(5000))
    checkpoints = attempt(portal, blobs, 2)
    restored = checkpoints.restore()
    assert restored is not None
    place = restored.state.data_ptr()
    del restored
    saved(checkpoints, 2, torch.zeros(5000))
    assert checkpoints.camera.places[0].data_ptr() == place


def test_no_torch_without_tensors(tmp_path: Path) -> None:
    """tokenize_corpus, say, has none; and listing and adopting need none."""
    code = f"""
import sys
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.listing import adopt, steps_of
from crown_exp.folder.paths import RunPaths
from crown_exp.storage import Portal, open_blobs
with Portal() as portal:
    blobs = open_blobs({str(tmp_path)!r})
    checkpoints = Checkpoints(portal, blobs, RunPaths("r1"), 1)
    checkpoints.save(3, {{"position": 5, "open": ["a", 2**70]}})
    checkpoints.wait()
    assert checkpoints.saved == 3, checkpoints.outcome()
    portal.call(adopt, blobs, RunPaths("r1"), RunPaths("r2"), None)
    restored = Checkpoints(portal, blobs, RunPaths("r2"), 1).restore()
    assert restored.state == {{"position": 5, "open": ["a", 2**70]}}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_second_save_takes_no_more_memory(tmp_path: Path) -> None:
    """One copy of the state in all, whatever is saved how often; and none while it is written."""
    code = f"""
import resource
import torch
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.folder.paths import RunPaths
from crown_exp.storage import Portal, open_blobs

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if {sys.platform == "darwin"} else 1024)

size = 160 * 2**20
with Portal() as portal:
    checkpoints = Checkpoints(portal, open_blobs({str(tmp_path)!r}), RunPaths("r1"), 1)
    warm = Checkpoints(portal, open_blobs({str(tmp_path)!r}), RunPaths("r2"), 1)
    warm.save(1, torch.ones(5))
    warm.wait()
    state = {{"w": torch.ones(size // 8), "m": torch.ones(size // 8)}}
    before = peak()
    checkpoints.save(1, state)
    checkpoints.wait()
    first = peak()
    state["w"] += 1
    middle = peak()
    checkpoints.save(2, state)
    checkpoints.wait()
    assert checkpoints.saved == 2
    print((first - before) / size, (peak() - middle) / size)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    first, second = map(float, ran.stdout.split())
    assert first < 1.1
    assert second < 0.05


def test_more_than_a_pack(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor may run over several; what is trained begins a new one."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 1024)
    blobs = memory_store()
    frozen, trained = torch.arange(300), torch.arange(500.0)
    state = [trained, frozen, torch.tensor(3)]
    outcome = saved(attempt(portal, blobs, keep=Keep()), 1, state, frozen={id(frozen)})
    assert outcome.bytes == 2432 + 2048 + 64  # each tensor ends at a multiple of 64
    sizes = sorted(len(data) for path, data in contents(portal, blobs).items() if "/packs/" in path)
    assert sizes == [64, 384, 1024, 1024, 1024, 1024]
    restored = attempt(portal, blobs, 2).restore()
    assert restored is not None and same(state, restored.state)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_can_read_what_was_restored_into_a_buffer_that_was_saved_from(
    portal: Portal,
) -> None:
    blobs = memory_store()
    begin(portal, blobs, 1)
    checkpoints = attempt(portal, blobs)
    assert isinstance(saved(checkpoints, 1, torch.ones(100_000)), Saved)
    restored = checkpoints.restore()
    assert restored is not None
    child = os.fork()
    if not child:
        os._exit(0 if bytes(restored.state.numpy()[:1]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
