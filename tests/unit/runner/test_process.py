"""What an attempt leaves of itself in its process: nothing. So a second run equals the same run alone."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crown_exp import Run
from crown_exp.runner.imports import when_imported
from crown_exp.runner.process import imported_at_rest
from tests.running import Lab


def observed() -> dict[str, Any]:
    """Everything of the process that the runner sets, or lets a task set."""
    cudnn = torch.backends.cudnn
    return {
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "path": list(sys.path),
        "meta_path": list(sys.meta_path),
        "level": logging.root.level,
        "handlers": list(logging.root.handlers),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "unraisable": sys.unraisablehook,
        "streams": (sys.stdout, sys.stderr),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "directory": Path.cwd(),
    }


def turn_everything_over(run: Run) -> float:
    """A task that changes whatever it can."""
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    warnings.simplefilter("ignore")
    os.environ["ANOTHER"] = "1"
    os.environ.pop("HOME", None)
    os.environ["PATH"] = "/nowhere"
    os.chdir("/")
    sys.path.insert(0, "/nowhere")
    logging.basicConfig(level=logging.DEBUG, force=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return random.random() + np.random.rand() + torch.rand(()).item()


def raise_after(run: Run) -> float:
    raise RuntimeError(turn_everything_over(run))


@pytest.mark.parametrize("task", [turn_everything_over, raise_after])
def test_everything_is_put_back(lab: Lab, task: Callable[[Run], float]) -> None:
    before = observed()
    try:
        ended = lab.run(task, {"device": {"deterministic": True, "threads": 1}})
        after = observed()
    finally:
        os.chdir(before["directory"])
    assert (ended.code == 0) == (task is turn_everything_over), ended.said
    assert {key for key in before if before[key] != after[key]} == set()


def draws(run: Run) -> list[float]:
    found = []
    for batch in run.steps(run.batches(list(range(20)), batch_size=4), 7):
        found += [random.random(), np.random.rand(), torch.rand(()).item(), batch.sum().item()]
    return found


def test_equal_runs_in_one_process_are_equal(lab: Lab) -> None:
    first = lab.run(draws).ending.result
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    lab.run(turn_everything_over, {"device": {"deterministic": True, "threads": 1}, "seed": 5})
    assert lab.run(draws).ending.result == first
    assert lab.run(draws, {"device": {"workers": 2}}).ending.result == first
    assert lab.run(draws, {"seed": 1}).ending.result != first


def test_a_seed_of_any_size(lab: Lab) -> None:
    seen = [lab.run(draws, {"seed": seed}).ending.result for seed in (2**32 - 1, 2**32, 2**70 + 1)]
    assert len({tuple(found) for found in seen}) == 3


def test_log_records_are_shown_to_a_user_who_set_up_nothing(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers, level = list(logging.root.handlers), logging.root.level
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    try:
        lab.run(lambda run: logging.getLogger("mine").info("loaded %d files", 3))
        assert logging.root.handlers == []
        assert logging.root.level == logging.WARNING
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    assert "INFO mine: loaded 3 files" in capsys.readouterr().err


def test_a_call_right_after_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_late.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders, called = list(sys.meta_path), []
    with when_imported("imported_late", lambda: called.append(sys.modules["imported_late"].value)):
        import json  # noqa: F401

        assert called == []
        import imported_late  # type: ignore[import-not-found]

        assert called == [1]
        import imported_late  # noqa: F811

    assert called == [1]
    assert sys.meta_path == finders
    with when_imported("imported_late", lambda: called.append(2)):
        assert called == [1, 2]
    del sys.modules["imported_late"], imported_late


ALONE = """
import sys, pathlib
from tests.running import Lab
from crown_exp.storage import Portal, open_blobs

def plain(run):
    for turn in run.steps(3):
        if run.every("2 steps"):
            run.log(turn=turn)
    return [name for name in ("torch", "numpy", "hydra", "omegaconf", "pydantic") if name in sys.modules]

def late(run):
    import random, torch, numpy
    return [random.random(), numpy.random.rand(), torch.rand(()).item()]

where = pathlib.Path(sys.argv[1])
with Portal() as portal:
    lab = Lab(portal, open_blobs(str(where / "store")), where / "home")
    plain_run, late_run = lab.run(plain), lab.run(late, {"seed": 3})
    assert plain_run.facts.attempts[0].numerics == {}
    print(plain_run.ending.result, late_run.ending.result, lab.run(late, {"seed": 3}).ending.result,
          lab.run(late, {"seed": 4}).ending.result, sep="\\n")
"""


def test_torch_comes_with_the_task_that_imports_it_and_is_seeded_then(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported, late, again, other = done.stdout.splitlines()
    assert imported == "[]"
    assert late == again != other


def test_a_run_in_another_thread_leaves_signals_alone(lab: Lab) -> None:
    from threading import Thread

    ended: list[Any] = []
    thread = Thread(target=lambda: ended.append(lab.run(draws)))
    thread.start()
    thread.join()
    assert ended[0].code == 0, ended[0].said


def test_the_collector_rests_until_it_is_woken_and_forgets_nothing() -> None:
    assert gc.isenabled()
    with imported_at_rest() as wake:
        assert not gc.isenabled()
        wake()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with imported_at_rest() as wake:
            wake()
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
