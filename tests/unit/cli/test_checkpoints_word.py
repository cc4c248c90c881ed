"""`crown-exp checkpoints`: what a run saved, told, checked, taken out, cleared."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crown_exp.checkpoints.base import Keep, Saved
from crown_exp.checkpoints.checking import checked
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.config.schema import defaults
from crown_exp.folder import AttemptRecord, RunPaths, encode
from crown_exp.storage import open_blobs
from crown_exp.storage.machine import here as this_machine
from crown_exp.storage.machine import process_started
from tests.running import merged
from tests.s3.buckets import Bucket
from tests.unit.cli.record import World
from tests.unit.registry.folders import make_run

ID = "r261122-k7f3q2"
FROZEN = torch.arange(1000.0)


@dataclass
class Saver:
    """A run that saves, with a frozen tensor and one that changes."""

    world: World
    run: str = ID

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.run)

    @property
    def folder(self) -> Path:
        return self.world.runs / self.run

    def save(self, attempt: int, metrics: Mapping[int, float | None]) -> None:
        checkpoints = Checkpoints(
            self.world.portal, self.world.blobs, self.paths, attempt, keep=Keep(last=99)
        )
        if attempt > 1:
            checkpoints.restore()
        for step, value in metrics.items():
            state = {
                "tracked": {"net": {"weight": torch.full((10,), float(step)), "frozen": FROZEN}}
            }
            told = {} if value is None else {"accuracy": value}
            checkpoints.save(step, state, metrics=told, frozen={id(FROZEN)})
            checkpoints.wait()
            assert isinstance(checkpoints.outcome(), Saved)

    def pack(self, step: int, number: int = 0) -> Path:
        (found,) = self.folder.glob(f"checkpoints/*-{step:012}.json")
        return self.folder / "packs" / json.loads(found.read_text())["packs"][number]["sha256"]

    def damage(self, step: int, number: int = 1) -> None:
        pack = self.pack(step, number)
        data = bytearray(pack.read_bytes())
        data[7] ^= 1
        pack.write_bytes(data)

    def steps(self) -> list[int]:
        names = (path.stem for path in self.folder.glob("checkpoints/*.json"))
        return sorted(int(name.partition("-")[2]) for name in names)


@pytest.fixture
def saver(here: World) -> Saver:
    """A run with checkpoints of step 2, 4 and 6, of which that of 4 is the best."""
    config = merged(
        defaults(), {"task": {"_target_": "x.train"}, "checkpoint": {"keep_best": "max accuracy"}}
    )
    here.call(make_run, here.blobs, ID, config)
    made = Saver(here)
    made.save(1, {2: 0.5, 4: 0.9, 6: None})
    return made


# --- list -------------------------------------------------------------------------------------------------


def test_the_table_tells_what_each_added_and_which_is_best(here: World, saver: Saver) -> None:
    lines = here.out("checkpoints", "list", "k7f")
    assert lines[0].split() == ["step", "attempt", "saved", "size", "new", "after", "metrics"]
    assert [line.split()[0] for line in lines[1:4]] == ["6", "4", "2"]
    assert "accuracy 0.9  best" in lines[2] and "best" not in lines[1] + lines[3]
    assert lines[4].startswith("3 checkpoints, 4.2 kB stored")
    assert lines[5] == "next: crown-exp checkpoints verify k7f3q2"


def test_json_has_all_of_it(here: World, saver: Saver) -> None:
    saver.save(2, {8: 0.1})
    (saver.folder / "checkpoints/000002-000000000008.damaged").write_bytes(b"")
    told = here.json("checkpoints", "list", saver.folder.as_uri())
    assert (told["id"], told["store"]) == (ID, here.blobs.url)
    assert [it["step"] for it in told["checkpoints"]] == [8, 6, 4, 2]
    newest, second, best, first = told["checkpoints"]
    assert (newest["attempt"], newest["parent"]) == (2, "000001-000000000006")
    assert newest["damaged"] and not second["damaged"]
    assert [it["best"] for it in told["checkpoints"]] == [False, False, True, False]
    assert (best["metrics"], second["metrics"]) == ({"accuracy": 0.9}, {})
    assert first["new"] == first["bytes"] > 4000 > 100 > best["new"] > 0


def test_a_run_without_checkpoints_and_one_that_cannot_be_read(here: World, saver: Saver) -> None:
    here.call(make_run, here.blobs, "r261123-empty", merged(defaults(), {"task": {}}))
    assert here.out("checkpoints", "list") == [
        "r261123-empty has no checkpoint", "next: crown-exp show empty",
    ]  # fmt: skip
    (saver.folder / "checkpoints/000001-000000000004.json").write_bytes(b"{}")
    (saver.folder / "config.yaml").write_bytes(b"a: [")
    lines = here.out("checkpoints", "list", "k7f")
    assert lines[2].split() == ["4", "1", "damaged"]
    assert "3 checkpoints, 1 damaged" in lines[4]


# --- verify -----------------------------------------------------------------------------------------------


def test_whole_ones_are_said_in_a_line(here: World, saver: Saver) -> None:
    before = files(saver.folder)
    said, what_next = here.out("checkpoints", "verify", "k7f")
    assert said.startswith(f"{ID}: 3 checkpoints, 12 kB: every byte is what was written")
    assert what_next == "next: crown-exp checkpoints list k7f3q2"
    assert here.out("checkpoints", "verify", "k7f@4")[0].startswith(f"{ID}: 1 checkpoint,")
    assert here.out("checkpoints", "verify", "k7f@best")[0].startswith(f"{ID}: 1 checkpoint,")
    assert files(saver.folder) == before


def test_damaged_ones_are_named(here: World, saver: Saver) -> None:
    saver.damage(6)
    saver.pack(2, 1).unlink()
    before = files(saver.folder)
    code, out, err = here.type("checkpoints", "verify", "k7f")
    lines = out.splitlines()
    assert (code, err) == (1, "")
    named = [line for line in lines if line.startswith("damaged  ")]
    assert [line[:26] for line in named] == [
        "damaged  step 6, attempt 1", "damaged  step 2, attempt 1",
    ]  # fmt: skip
    assert "is gone" in out and lines[-2].endswith(": 2 damaged")
    assert lines[-1].startswith("next: crown-exp resume k7f3q2   # goes on from step 4")
    assert here.type("checkpoints", "verify", "k7f@4")[0] == 0
    code, out, _ = here.type("checkpoints", "verify", "k7f", "--json")
    told = json.loads(out)
    assert (code, told["damaged"]) == (1, 2)
    assert [it["whole"] for it in told["checkpoints"]] == [False, True, False]
    assert files(saver.folder) == before


def test_a_damaged_one_is_not_exported_and_named(here: World, saver: Saver) -> None:
    saver.damage(6)
    code, out, err = here.type("checkpoints", "export", "k7f@6", "out.safetensors")
    assert (code, out) == (80, "")
    assert "@6 is damaged: " in err and "tells which are whole" in err and err.count("\n") == 1
    assert not (here.root / "out.safetensors").exists()


def test_what_the_run_removes_meanwhile_is_no_damage(
    here: World, saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def removed_first(blobs: Any, paths: RunPaths, number: Any, told: Any) -> Any:
        if number[1] == 2:  # as retention does: the manifest, then what only it names
            pack = saver.pack(2, 1)
            await blobs.delete(paths.checkpoint(*number))
            pack.unlink()
        return await checked(blobs, paths, number, told)

    monkeypatch.setattr("crown_exp.cli.checkpoint_verify.checked", removed_first)
    code, out, err = here.type("checkpoints", "verify", "k7f")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "removed  step 2, attempt 1  by the run, while it was read"
    assert out.splitlines()[1].startswith(f"{ID}: 2 checkpoints, ")
    saver.save(2, {2: 0.5})
    told = here.json("checkpoints", "verify", "k7f")
    assert (told["damaged"], told["removed"]) == (0, ["000002-000000000002"])
    assert [it["step"] for it in told["checkpoints"]] == [6, 4]


# --- export -----------------------------------------------------------------------------------------------


def test_a_file_that_stock_safetensors_loads(here: World, saver: Saver) -> None:
    lines = here.out("checkpoints", "export", "k7f")
    assert lines[0].split() == ["net", "2", "tensors", "4.0", "kB"]
    assert lines[2] == "wrote k7f3q2-6.safetensors"
    assert lines[3] == "load with: safetensors.torch.load_file('k7f3q2-6.safetensors')"
    loaded = load_file("k7f3q2-6.safetensors")
    assert torch.equal(loaded["net.frozen"], FROZEN)
    assert torch.equal(loaded["net.weight"], torch.full((10,), 6.0))


def test_which_checkpoint_what_of_it_and_where_to(here: World, saver: Saver) -> None:
    here.out("checkpoints", "export", "k7f@best", "best.safetensors", "--only", "net.weight")
    assert {name: float(it[0]) for name, it in load_file("best.safetensors").items()} == {
        "net.weight": 4.0
    }
    told = here.json("checkpoints", "export", f"{saver.folder}@2", "--output", "a b.safetensors")
    assert (told["step"], told["tensors"], Path(told["file"]).name) == (2, 2, "a b.safetensors")
    assert float(load_file("a b.safetensors")["net.weight"][0]) == 2.0


def test_nothing_is_written_over_unasked(here: World, saver: Saver) -> None:
    Path("mine").write_text("mine")
    assert here.refused("checkpoints", "export", "k7f", "mine") == (
        "mine: exists; nothing was written: name another, or add --force\n"
    )
    assert Path("mine").read_text() == "mine"
    here.out("checkpoints", "export", "k7f", "mine", "--force")
    assert "net.weight" in load_file("mine")


def test_a_damaged_one_leaves_no_file(here: World, saver: Saver) -> None:
    saver.damage(6)
    here.refused("checkpoints", "export", "k7f", "x.safetensors", code=80)
    assert not list(here.root.glob("*x.safetensors*"))


# --- prune ------------------------------------------------------------------------------------------------


def test_the_plan_says_what_goes_what_stays_and_why(here: World, saver: Saver) -> None:
    words = ("checkpoints", "prune", "k7f", "--keep-last", "1")
    before = files(saver.folder)
    lines = here.out(*words, "--dry-run")
    assert [
        (line.split()[0], line[line.index("B") + 1 :].split(maxsplit=1)) for line in lines[1:4]
    ] == [
        ("6", ["stays", "the newest"]),
        ("4", ["stays", "the best by accuracy"]),
        ("2", ["goes", "older"]),
    ]
    assert lines[4].startswith("would free: 64 B in 1 pack") or "would free" in lines[4]
    assert lines[-1] == "next: crown-exp checkpoints prune k7f3q2 --keep-last 1"
    assert files(saver.folder) == before


def test_it_is_done_when_it_is_agreed_to(here: World, saver: Saver) -> None:
    words = ("checkpoints", "prune", "k7f", "--keep-last", "1", "--keep-best", "none")
    code, _, err = here.type(*words)
    assert code == 2 and err.startswith("prune: asks before it removes, and nobody is there")
    assert err.rstrip().endswith("--keep-last 1 --keep-best none --yes")
    assert saver.steps() == [2, 4, 6]
    lines = here.out(*words, "--yes")
    assert lines[-2].startswith("removed 2 checkpoints, freed ")
    assert saver.steps() == [6]
    assert here.type("checkpoints", "verify", "k7f")[0] == 0
    assert "nothing need go" in here.out(*words, "--yes")


def test_multiples_stay_and_json_tells(here: World, saver: Saver) -> None:
    words = ("checkpoints", "prune", "k7f", "--keep-last", "1", "--keep-best", "none")
    told = here.json(*words, "--keep-every", "4 steps", "--yes")
    assert [it["step"] for it in told["checkpoints"]] == [2]
    assert [it["step"] for it in told["stays"]] == [6, 4]
    assert told["removed"] and told["bytes"] > 0
    assert saver.steps() == [4, 6]


def test_the_newest_that_verifies_stays(here: World, saver: Saver) -> None:
    saver.damage(6)
    here.out("checkpoints", "prune", "k7f", "--keep-last", "1", "--keep-best", "none", "--yes")
    assert 4 in saver.steps()


def test_a_run_that_is_held_keeps_its_checkpoints(here: World, saver: Saver) -> None:
    attempt(here, os.getpid())
    said = here.refused("checkpoints", "prune", "k7f", "--keep-last", "1", "--yes")
    assert said.startswith(f"{ID}: is held by attempt 1 on ") and "nothing was removed" in said
    stray = saver.folder / "packs" / ("0" * 64)
    stray.write_bytes(b"x" * 1000)
    os.utime(stray, (time.time() - 3 * 86400,) * 2)
    code, out, err = here.type("checkpoints", "prune", "k7f", "--keep-last", "1", "--yes")
    assert code == 0 and "its checkpoints stay" in err and "freed 1.0 kB" in out
    assert saver.steps() == [2, 4, 6] and not stray.exists()


def attempt(here: World, pid: int) -> None:
    machine = this_machine()
    record = AttemptRecord(
        run=ID, attempt=1, started=datetime.now(UTC) - timedelta(seconds=5), host=machine.host, pid=pid,
        process_started=process_started(pid), boot_id=machine.boot_id, job=None, numerics={}, versions={},
    )  # fmt: skip
    here.call(here.blobs.put, RunPaths(ID).attempt(1), encode(record))


# --- bad input ----------------------------------------------------------------------------------------------

BAD = (
    ("list nope", "nope: no run in file://"),
    ("list /nowhere/runs/r1", "r1: no run in file:///nowhere has this id"),
    ("list a/b", "a/b: expected an id, or the folder of a run"),
    ("list memory://x/runs/r1", "memory://x/runs/r1: what is in memory is gone"),
    ("verify", "Missing argument 'RUN[@STEP]'. Try: crown-exp help checkpoints"),
    ("verify k7f@5", f"{ID}@5: no checkpoint of this step; there are 2, 4, 6"),
    ("verify k7f@six", "k7f3q2@six: expected RUN@STEP or RUN@latest, got 'six' for a step"),
    ("export k7f@6 x --output y", "--output y: the file is named twice; the other is x"),
    ("export k7f@", "k7f3q2@: expected RUN@STEP or RUN@latest"),
    ("export k7f .", ".: is a folder: name a file in it"),
    ("export k7f no/where.safetensors", "no/where.safetensors: there is no folder no"),
    ("export k7f --only nett", "nett: no tensor of r261122-k7f3q2@6 is named so; there are net"),
    ("prune k7f@4", "k7f3q2@4: prune is told what stays, not what goes"),
    ("prune k7f --keep-last 0", "Invalid value for '--keep-last'"),
    ("prune k7f --keep-every often", "--keep-every: expected something like '1000 steps'"),
    ("prune k7f --keep-best accuracy", "--keep-best: expected max or min and a metric"),
    ("prine k7f", "checkpoints has no action prine; did you mean prune? Try: crown-exp help"),
)  # fmt: skip


@pytest.mark.parametrize(("typed", "words"), BAD, ids=[typed for typed, _ in BAD])
def test_bad_input_is_one_line(here: World, saver: Saver, typed: str, words: str) -> None:
    before = files(here.root / "store")
    assert here.refused("checkpoints", *typed.split()).startswith(words)
    assert files(here.root / "store") == before


def test_a_run_that_keeps_no_best_has_none(here: World) -> None:
    here.call(make_run, here.blobs, ID, merged(defaults(), {"task": {}}))
    Saver(here).save(1, {2: 0.5})
    assert "keeps no best: its checkpoint.keep_best is not set" in here.refused(
        "checkpoints", "export", "k7f@best"
    )


def files(folder: Path) -> dict[str, Any]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- on S3 --------------------------------------------------------------------------------------------------


def test_uploads_that_never_ended_are_looked_for_on_s3(
    here: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    there = replace(here, blobs=open_blobs(f"{bucket.url}/store", bucket.access))
    there.call(make_run, there.blobs, ID, merged(defaults(), {"task": {}}))
    Saver(there).save(1, {2: 0.5, 4: 0.9})
    upload = bucket.client.create_multipart_upload(
        Bucket=bucket.name, Key=f"store/runs/{ID}/packs/x"
    )["UploadId"]
    words = ("checkpoints", "prune", f"{bucket.url}/store/runs/{ID}", "--keep-last", "1", "--yes")
    assert there.json(*words)["uploads"] == 1  # moto dates every upload to 2010
    left = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    assert upload and left == []
    assert [it["step"] for it in there.json("checkpoints", "list", ID)["checkpoints"]] == [4]
