"""`checkpoint.init_from` names a run, or a file, in another store: a bucket."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.folder import RunPaths
from crown_exp.runner import Run
from crown_exp.storage import Portal, open_blobs
from tests.running import Lab
from tests.s3.buckets import Bucket


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def task_of(found: dict[str, Any]) -> Any:
    def task(run: Run) -> None:
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        run.track(net=net)
        found.update(copy.deepcopy(net.state_dict()))
        for _ in run.steps(2):
            pass

    return task


def test_weights_come_from_a_bucket(
    portal: Portal, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    there = Lab(
        portal, open_blobs(f"{bucket.url}/store", bucket.access), tmp_path / "there", made=4
    )
    here = Lab(portal, open_blobs(str(tmp_path / "store")), tmp_path / "here")
    states: dict[str, Any] = {}
    source = there.run(task_of(states))
    assert source.code == 0, source.said
    found: dict[str, Any] = {}
    named = f"{bucket.url}/store/runs/{source.id}@2"
    ended = here.run(task_of(found), {"checkpoint": {"init_from": named}})
    assert ended.code == 0, ended.said
    assert all(torch.equal(found[name], value) for name, value in states.items())

    torch.save({name: value + 1 for name, value in states.items()}, tmp_path / "w.pt")
    bucket.write("files/w.pt", (tmp_path / "w.pt").read_bytes())
    ended = here.run(task_of(found), {"checkpoint": {"init_from": f"{bucket.url}/files/w.pt"}})
    assert ended.code == 0, ended.said
    assert all(torch.equal(found[name], value + 1) for name, value in states.items())

    for pack in portal.call(there.blobs.list, RunPaths(source.id).packs):
        portal.call(there.blobs.delete, pack.path)
    ended = here.run(task_of(found), {"checkpoint": {"init_from": named}})
    assert ended.code == 2
    assert "is gone" in ended.said
