"""Memory that really runs out: the process may have so much, and a batch in one part takes more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.running import Project, ends

TASKS = """
import resource

import torch

def hungry(run, *, mebibytes: int):
    net = torch.nn.Linear(1, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    net(torch.zeros(1, 1)).sum().backward()  # whatever torch loads, it has loaded
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, -1))
    for _ in run.steps(2):
        for part in run.split(torch.ones(8, 1)):
            room = torch.ones(len(part), mebibytes * 2**18 // 8)
            run.backward((net(part) * room.mean()).mean())
        run.update(opt)
    return {"parts": run._parts.count}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_smaller_parts_fit(tmp_path: Path) -> None:
    project = Project.write(tmp_path, TASKS, hungry="mebibytes: 500")
    done = project.crown("task=hungry", "device=cpu", "device.threads=1")
    assert done.returncode == 0, done.stdout
    (run,) = project.runs
    assert ends(run) == [75, 75, 0]
    assert "out of memory with batches in 2 parts; tried again with 4" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_where_one_sample_does_not_fit(tmp_path: Path) -> None:
    project = Project.write(tmp_path, TASKS, hungry="mebibytes: 9000")
    done = project.crown("task=hungry", "device=cpu", "device.threads=1")
    assert done.returncode == 78, done.stdout
    assert ends(project.runs[0]) == [75, 75, 75, 78]
    assert "one sample at a time" in done.stdout
