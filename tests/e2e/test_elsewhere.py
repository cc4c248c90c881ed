"""A run is gone on with from another directory, with an empty home: where its folder is, is all one needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.exactness.zygote import Zygote
from tests.running import Project
from tests.s3.buckets import Bucket

TASKS = """
import os
import signal
import time

import torch


def train(run, turns: int = 12):
    net = torch.nn.Linear(4, 1)
    opt = torch.optim.AdamW(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    for turn in run.steps(turns):
        if turn + 1 == int(os.environ.get("STOP_AT", "0")):
            how = os.environ.get("STOP_BY", "SIGTERM")
            for _ in range(12_000):
                if how == "SIGTERM" or run._boundary.keeping.checkpoints.saved:
                    break
                time.sleep(0.01)
            os.kill(os.getpid(), getattr(signal, how))
        with torch.no_grad():
            net.weight += torch.rand_like(net.weight)
        run.backward(net(torch.randn(8, 4)).square().mean())
        run.update(opt)
        run.log(weight=float(net.weight.sum()))
    return {"weight": float(net.weight.sum())}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "the store"


@pytest.fixture
def there(tmp_path: Path, store: Path, zygote: Zygote) -> Project:
    """A project whose runs are in a store of its own choice."""
    made = Project.write(tmp_path / "there", TASKS)
    made.zygote = zygote
    made.environment["CROWN_STORAGE__ROOT"] = str(store)
    return made


@pytest.fixture
def here(there: Project, tmp_path: Path) -> Project:
    """The same code in another directory, with an empty home, which was never told of the store."""
    shutil.copytree(there.root, tmp_path / "here", ignore=shutil.ignore_patterns(".crown"))
    return Project(tmp_path / "here", zygote=there.zygote)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Project:
    """The same run that nobody ended, in a store of its own."""
    made = Project.write(tmp_path_factory.mktemp("straight"), TASKS)
    made.zygote = zygote
    done = made.crown("task=train", "device=cpu", "checkpoint.every=3 steps")
    assert done.returncode == 0, done.stdout
    return made


def folder_of(store: Path) -> Path:
    (found,) = (path.parent for path in store.glob("runs/*/run.json"))
    return found


def weight(folder: Path) -> float:
    found: float = json.loads((folder / "result.json").read_text())["result"]["weight"]
    return found


def killed(there: Project, store: Path, how: str = "SIGKILL") -> Path:
    """A run that was ended in turn 9, saved after every third."""
    typed = ("task=train", "device=cpu", "checkpoint.every=3 steps")
    there.crown(*typed, env={"STOP_AT": "9", "STOP_BY": how})
    return folder_of(store)


@pytest.mark.parametrize("how", ["word", "hydra", "composed", "run", "path"])
def test_the_url_of_its_folder_is_enough(
    there: Project, here: Project, store: Path, straight: Project, how: str
) -> None:
    folder = killed(there, store)
    url = folder.as_uri()
    words = {
        "word": ("resume", url),
        "hydra": (f"resume={url}",),
        "composed": ("task=train", "device=cpu", f"resume={url}"),
        "run": ("run", url),
        "path": ("resume", str(folder)),
    }
    done = here.crown(*words[how])
    assert done.returncode == 0, done.stdout
    assert "goes on after step" in done.stdout
    assert not (here.root / ".crown/store").exists()
    assert weight(folder) == weight(straight.runs[0])


def test_a_fork_of_it_lies_beside_it(there: Project, here: Project, store: Path) -> None:
    folder = killed(there, store)
    done = here.crown("fork", f"{folder.as_uri()}@3", "name=other")
    assert done.returncode == 0, done.stdout
    (made,) = (path for path in store.glob("runs/*") if path != folder)
    lineage = json.loads((made / "run.json").read_text())["lineage"]
    assert lineage["fork"]["step"] == 3 and lineage["fork"]["run"] == folder.name


def everything(project: Project, word: str) -> tuple[dict[str, Any], bytes, Any]:
    """The newest checkpoint of a run: where its tensors lie, all their bytes, and what else the state is."""
    done = project.crown("checkpoints", "export", f"{word}@latest", "all.safetensors", "--force")
    assert done.returncode == 0, done.stdout
    file = project.root / "all.safetensors"
    data = file.read_bytes()
    file.unlink()
    size = int.from_bytes(data[:8], "little")
    places = json.loads(data[8 : 8 + size])
    return places, data[8 + size :], json.loads(places.pop("__metadata__")["tree"])


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_bucket_and_the_id_are_enough(
    there: Project, here: Project, bucket: Bucket, straight: Project, how: str
) -> None:
    there.environment |= bucket.environment()
    here.environment |= bucket.access
    typed = ("task=train", "device=cpu", "checkpoint.every=3 steps")
    killed = there.crown(*typed, env={"STOP_AT": "9", "STOP_BY": how})
    assert killed.returncode == {"SIGTERM": 75, "SIGKILL": -9}[how], killed.stdout
    (run,) = {key.split("/")[2] for key in bucket.keys("store/runs/")}
    url = f"{bucket.url}/store/runs/{run}"
    shown = here.crown("show", url).stdout
    assert ("preempted" if how == "SIGTERM" else "train") in shown
    assert f"folder     {url} (" in shown
    assert "attempt 1 began" in here.crown("logs", url).stdout
    listed = here.crown("checkpoints", "list", url).stdout
    assert f"next: crown-exp checkpoints verify {url}" in listed
    checked = here.crown("checkpoints", "verify", url)
    assert checked.returncode == 0 and "every byte is what was written" in checked.stdout
    made = here.crown("checkpoints", "export", f"{url}@latest", "net.safetensors", "--only", "net")
    assert made.returncode == 0, made.stdout
    assert not (here.root / ".crown").exists()
    done = here.crown("resume", url)
    assert done.returncode == 0, done.stdout
    assert ("goes on after step 9" if how == "SIGTERM" else "goes on after step ") in done.stdout
    ended = json.loads(bucket.read(f"store/runs/{run}/result.json"))["result"]["weight"]
    assert ended == weight(straight.runs[0])
    ours = everything(here, url)
    assert len(ours[0]) > 6 and len(ours[1]) > 100  # the optimizer's, too
    assert ours == everything(straight, "latest")
    forked = here.crown("fork", f"{url}@latest", "task.turns=14")
    assert forked.returncode == 0, forked.stdout
    assert len({key.split("/")[2] for key in bucket.keys("store/runs/")}) == 2


def test_a_bucket_that_is_no_store_is_refused_before_anything_is_recorded(
    there: Project, bucket: Bucket
) -> None:
    there.environment |= bucket.environment()
    bucket.write("store/theirs", b"x")
    done = there.crown("task=train", "device=cpu")
    assert done.returncode == 2 and "holds other things (first: theirs)" in done.stdout
    assert bucket.keys() == ["store/theirs"]
    there.environment["CROWN_STORAGE__ROOT"] = "s3://crown-no-such-bucket/x"
    done = there.crown("task=train", "device=cpu")
    assert done.returncode == 2 and done.stdout.count("\n") == 1, done.stdout
    done = there.crown("resume", f"{bucket.url}/typo/runs/r1-nope")
    assert done.returncode == 2 and "no run in s3://" in done.stdout
    assert bucket.keys() == ["store/theirs"]


def test_it_is_shown_and_its_log_read_without_a_trace(
    there: Project, here: Project, store: Path
) -> None:
    url = killed(there, store, "SIGTERM").as_uri()
    shown = here.crown("show", url).stdout
    assert "preempted" in shown and "saved" in shown
    assert "attempt 1 began" in here.crown("logs", url).stdout
    assert not (here.root / ".crown").exists()


def test_a_run_that_is_known_to_be_elsewhere_is_told_with_its_folder(
    there: Project, here: Project, store: Path
) -> None:
    folder = killed(there, store, "SIGTERM")
    home = {"CROWN_HOME": str(there.root / ".crown")}
    done = here.crown("resume", folder.name, env=home)
    assert done.returncode == 2
    assert f"type its folder, {store.as_uri()}/runs/<id>" in done.stdout


def test_a_folder_of_no_run_is_one_line(there: Project, here: Project, store: Path) -> None:
    url = f"{store.as_uri()}/runs/r1-nope"
    for words in (("resume", url), ("fork", url), ("show", url), ("logs", url), ("run", url)):
        done = here.crown(*words)
        assert done.returncode == 2, done.stdout
        assert done.stdout.count("\n") == 1, done.stdout
        assert "no run in file://" in done.stdout
    assert not store.exists() and not (here.root / ".crown").exists()
