"""Hydra's own launchers carry our runs out too (basic and submitit_local: test_sweeps.py as well)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.slurm import cluster, missing

QUICK = "+experiment=quick"


@pytest.fixture
def joblib() -> Iterator[None]:
    """Its workers stay for whoever comes next: other tests count the processes of this one."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


@pytest.mark.usefixtures("joblib")
def test_joblib_gives_values_back_and_a_failure_hides_no_other(crown: Any) -> None:
    said = crown(
        "-m", QUICK, "task.gain=1,2", "task.fail='',raise",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    assert said.code == 1
    results = crown.results()
    assert sorted(result["gain"] for result in results.values()) == [1, 2]
    assert os.getpid() not in {result["pid"] for result in results.values()}


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_target_elsewhere_is_refused_before_anything_starts(crown: Any, launcher: str) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    said = crown(
        "-m", QUICK, "compute=local,a100_spot", "task.gain=1,2", f"hydra/launcher={launcher}"
    )  # fmt: skip
    refusal = (
        f"compute=a100_spot: is elsewhere, where hydra/launcher={launcher} sends nothing; "
        "leave hydra/launcher out"
    )
    assert (said.code, said.lines) == (2, [refusal])
    assert crown.runs() == []


@pytest.mark.parametrize("sweeper", ["crown", "basic"])
def test_one_run_elsewhere_is_refused_in_the_same_words(crown: Any, sweeper: str) -> None:
    several = ["-m"] if sweeper == "basic" else []
    said = crown(
        *several, QUICK, "compute=a100", "compute.spot=true", "hydra/launcher=basic", f"hydra/sweeper={sweeper}"
    )  # fmt: skip
    assert said.code == 2
    assert "compute=a100: is elsewhere, where hydra/launcher=basic sends nothing" in said.err
    assert len(said.lines) == 1 or several
    assert "Traceback" not in said.err
    assert crown.runs() == []


def test_a_preset_may_choose_the_target(crown: Any) -> None:
    crown.write(
        "conf/experiment/far.yaml",
        "# @package _global_\ndefaults:\n  - quick\n  - override /compute: h100\n",
    )
    said = crown("-m", "+experiment=quick,far", "hydra/launcher=basic")
    assert (said.code, len(said.lines)) == (2, 1)
    assert said.err.startswith("compute=h100: is elsewhere")
    assert crown.runs() == []


def test_a_run_that_cannot_be_made_counts_among_those_of_a_sweep(crown: Any) -> None:
    """Hydra's basic launcher keeps the error to itself."""
    said = crown("-m", QUICK, "task.gain=1,word", "hydra/launcher=basic")
    assert said.code != 0
    assert "task.gain: expected" in said.err
    assert len(crown.runs()) == 1


NOTES = '''
from pathlib import Path

from hydra.experimental.callback import Callback


class Noting(Callback):
    """Notes in a file, whichever process it is in, how Hydra says that each job ended."""

    def on_job_end(self, config, job_return, **rest):
        with (Path(__file__).parent / "statuses").open("a") as file:
            file.write(f"{job_return.status.name}\\n")
'''


@pytest.fixture
def statuses(crown: Any) -> Callable[[], list[str]]:
    """What Hydra says of the jobs of a sweep that ends with `NOTED`."""
    crown.write("their_notes.py", NOTES)
    return lambda: sorted((crown.root / "statuses").read_text().split())


NOTED = "+hydra.callbacks.noting._target_=their_notes.Noting"


@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_task_that_fails_is_failed(
    crown: Any, statuses: Callable[[], list[str]], launcher: str
) -> None:
    """Not UNKNOWN, which Hydra says of a job whose process is gone."""
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    said = crown("-m", QUICK, "task.fail='',raise", f"hydra/launcher={launcher}", NOTED)
    assert said.code == 1
    assert statuses() == ["COMPLETED", "FAILED"]
    assert [result["gain"] for result in crown.results().values()] == [1]


@pytest.mark.full
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_submitit_slurm_gives_values_back_and_a_failure_hides_no_other(
    crown: Any, statuses: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with cluster() as conf:
        monkeypatch.setenv("SLURM_CONF", conf)
        said = crown(
            "-m", QUICK, "task.gain=1,2", "task.fail='',raise",
            "hydra/launcher=submitit_slurm", "hydra.launcher.partition=cpu", NOTED,
        )  # fmt: skip
    assert said.code == 1
    results = crown.results()
    assert sorted(result["gain"] for result in results.values()) == [1, 2]
    assert len({result["pid"] for result in results.values()} - {os.getpid()}) == 2
    assert statuses() == ["COMPLETED", "COMPLETED", "FAILED", "FAILED"]
    assert sum(line.endswith("ValueError: no good") for line in said.lines) >= 2
