"""Which cluster a machine is a client of, at sites that do not tell; with programs in place of Slurm's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crown_exp.compute.base import ExecutorError
from crown_exp.compute.executors.slurm.executor import SlurmExecutor

Site = Callable[[str, str], SlurmExecutor]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine whose `scontrol` and `squeue` are such shell scripts."""

    def made(scontrol: str, squeue: str) -> SlurmExecutor:
        for name, body in (("scontrol", scontrol), ("squeue", squeue)):
            if body:
                (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
                (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return SlurmExecutor(tmp_path / "slurm")

    return made


def test_a_cluster_is_known_by_its_name(site: Site) -> None:
    server = site(
        "echo 'Configuration data as of now'; echo 'ClusterName  = lab'", "exit 1"
    ).server()
    assert server == {"id": "lab", "place": "a machine of Slurm's cluster lab"}


@pytest.mark.parametrize(
    "scontrol",
    [
        "echo 'scontrol: Access/permission denied' >&2; exit 1",
        "echo 'this site has no scontrol for users'",
        "echo 'ClusterName = (null)'",
        "",
    ],
)
def test_where_that_is_refused_nothing_is_known_and_jobs_can_be_asked_for(
    site: Site, scontrol: str
) -> None:
    assert site(scontrol, "exit 0").server() is None


def test_a_slurm_that_does_not_answer_is_no_refusal(site: Site) -> None:
    down = "echo 'error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    with pytest.raises(ExecutorError, match="Slurm does not answer"):
        site(down, down).server()
