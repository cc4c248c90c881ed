"""A new run that begins with another one's weights: what fits is copied, all else is as made, and told."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.folder import RunPaths
from crown_exp.runner import Run
from tests.running import Ended, Lab


def begun(lab: Lab, source: str, task: Callable[..., Any], **more: Any) -> Ended:
    """A run with `checkpoint.init_from`, and other keys of the group."""
    return lab.run(task, {"checkpoint": {"init_from": source, **more}})


def saved(lab: Lab, made: Callable[[], dict[str, nn.Module]], steps: int = 2) -> tuple[str, Any]:
    """A run that tracks modules and saves them; its id, and their states."""
    kept: dict[str, Any] = {}

    def task(run: Run) -> None:
        modules = made()
        opt = torch.optim.Adam([w for it in modules.values() for w in it.parameters()], lr=0.1)
        run.track(**modules, opt=opt)
        for _ in run.steps(steps):
            run.backward(sum(w.sum() for it in modules.values() for w in it.parameters()))
            run.update(opt)
        kept.update({name: copy.deepcopy(it.state_dict()) for name, it in modules.items()})

    ended = lab.run(task)
    assert ended.code == 0, ended.said
    return ended.id, kept


def tracking(**made: Callable[[], nn.Module]) -> tuple[Callable[[Run], None], dict[str, Any]]:
    """A task that tracks new modules, and what they are after that."""
    found: dict[str, Any] = {}

    def task(run: Run) -> None:
        modules = {name: make() for name, make in made.items()}
        run.track(**modules)
        found.update({name: copy.deepcopy(it.state_dict()) for name, it in modules.items()})
        for _ in run.steps(1):
            pass

    return task, found


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def event(ended: Ended) -> dict[str, Any]:
    found = [record for record in ended.records if record[0] == "e" and record[2] == "initialized"]
    assert len(found) == 1
    return found[0][3]


def test_what_is_tracked_begins_with_the_weights_and_nothing_else(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": net()})
    seen: dict[str, Any] = {}

    def task(run: Run) -> None:
        it = net()
        opt = torch.optim.Adam(it.parameters(), lr=0.5)
        run.track(net=it, opt=opt)
        seen.update(copy.deepcopy(it.state_dict()))
        for index in run.steps(1):
            seen["first"] = (index, run.step, len(opt.state), opt.param_groups[0]["lr"])

    ended = begun(lab, f"{source}@2", task)
    assert ended.code == 0, ended.said
    assert seen.pop("first") == (0, 1, 0, 0.5)
    assert same(seen, states["net"])
    assert f"weights from {source}@2: 9 of 9 tensors\n" in ended.said
    told = event(ended)
    assert (told["run"], told["step"], told["matched"], told["of"]) == (source, 2, 9, 9)
    assert len(told["manifest"]) == 64


def test_what_does_not_fit_is_as_made_and_told(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": net(), "other": nn.Linear(1, 1)})
    made: dict[str, Any] = {}

    def head() -> nn.Module:
        it = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 7), nn.Linear(7, 7))
        made.update(copy.deepcopy(it.state_dict()))
        return it

    task, found = tracking(net=head)
    ended = begun(lab, f"{source}@2", task)
    assert ended.code == 0, ended.said
    for name in ("0.weight", "0.bias", "1.running_mean"):
        assert torch.equal(found["net"][name], states["net"][name])
    for name in ("2.weight", "3.bias"):
        assert torch.equal(found["net"][name], made[name])
    line = next(line for line in ended.said.splitlines() if line.startswith("weights from"))
    assert "7 of 11 tensors; not there, as made: net.3.weight, net.3.bias" in line
    assert "net.2.weight ([2, 4] there, [7, 4] here)" in line
    assert "not taken: net.2.weight, net.2.bias, other.weight and 1 more" in line


def test_names_are_mapped(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": net(), "ema": net()})
    task, found = tracking(net=net)
    assert begun(lab, f"{source}@2", task, init_map={"ema": "net"}).code == 0
    assert same(found["net"], states["ema"])
    inner = lambda: nn.ModuleDict({"body": net()})  # noqa: E731
    task, found = tracking(model=inner)
    rules = {"net": "model.body", "net.2": None}
    ended = begun(lab, f"{source}@2", task, init_map=rules)
    assert ended.code == 0, ended.said
    assert torch.equal(found["model"]["body.0.weight"], states["net"]["0.weight"])
    assert not torch.equal(found["model"]["body.2.weight"], states["net"]["2.weight"])
    assert event(ended)["missing"] == ["model.body.2.weight", "model.body.2.bias"]


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ({"bodi": "net"}, "checkpoint.init_map.bodi: begins no name there"),
        ({"other": "net"}, "checkpoint.init_from=SOURCE@2: net.0.weight is of another form"),
    ],
)
def test_rules_that_are_of_no_use_are_refused(lab: Lab, rules: Any, line: str) -> None:
    source, _ = saved(lab, lambda: {"net": net(), "other": nn.ModuleList([nn.Linear(1, 1)])})
    task, _ = tracking(net=lambda: nn.Sequential(nn.Linear(3, 4)))
    ended = begun(lab, f"{source}@2", task, init_map=rules)
    assert ended.code == 2
    if "SOURCE" not in line:
        assert line in ended.said
    else:
        assert "none of its tensors fits" in ended.said


def test_nothing_that_fits_is_refused_and_the_nearest_named(lab: Lab) -> None:
    source, _ = saved(lab, lambda: {"model": net()})
    task, _ = tracking(net=net)
    ended = begun(lab, f"{source}@2", task)
    assert (ended.code, ended.state) == (2, "stopped")
    assert "none of its tensors fits what is tracked: net.0.weight here, model.0.weight there" in (
        ended.said
    )
    assert "checkpoint.init_map='{model: net}'" in ended.said
    assert begun(lab, f"{source}@2", task, init_map={"model": "net"}).code == 0


def test_a_task_without_a_loop_is_filled_and_told_too(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": net()})

    def task(run: Run) -> float:
        it = net()
        run.track(net=it)
        return float(it.state_dict()["0.weight"].sum())

    ended = begun(lab, f"{source}@2", task)
    assert ended.ending.result == pytest.approx(float(states["net"]["0.weight"].sum()))
    assert event(ended)["matched"] == 9
    other = begun(lab, f"{source}@2", lambda run: None)
    assert other.code == 2
    assert "the task tracks no module" in other.said


def test_dtypes_are_cast_and_told(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": nn.Linear(2, 2)})
    task, found = tracking(net=lambda: nn.Linear(2, 2, dtype=torch.float64))
    ended = begun(lab, f"{source}@2", task)
    assert torch.equal(found["net"]["weight"], states["net"]["weight"].double())
    assert "2 cast from float32 to float64" in ended.said
    task, _ = tracking(net=lambda: nn.Linear(2, 2, dtype=torch.complex64))
    ended = begun(lab, f"{source}@2", task)
    assert ended.code == 2
    assert "float32 there, complex64 here" in ended.said


def tied() -> nn.Module:
    it = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    it["head"].weight = it["embed"].weight
    return it


def test_tied_weights_are_filled_once_and_stay_tied(lab: Lab, tmp_path: Path) -> None:
    source, states = saved(lab, lambda: {"net": tied()})
    seen: list[bool] = []

    def task(run: Run) -> None:
        it = tied()
        run.track(net=it)
        seen.append(it["head"].weight is it["embed"].weight)
        assert torch.equal(it["head"].weight, states["net"]["head.weight"])
        for _ in run.steps(1):
            pass

    ended = begun(lab, f"{source}@2", task)
    assert ended.code == 0, ended.said
    assert "2 of 2 tensors\n" in ended.said
    torch.save({"embed.weight": states["net"]["embed.weight"]}, tmp_path / "half.pt")
    ended = begun(lab, str(tmp_path / "half.pt"), task)
    assert "2 of 2 tensors\n" in ended.said
    assert seen == [True, True]


def test_lazy_parts_take_their_shapes_from_the_weights_if_all_are_there(lab: Lab) -> None:
    source, states = saved(lab, lambda: {"net": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))})
    seen: list[Any] = []

    def task(run: Run) -> None:
        it = nn.Sequential(nn.LazyLinear(4), nn.LazyLinear(2), nn.LazyLinear(9))
        run.track(net=it)
        out = it(torch.ones(1, 3))
        seen.append((it[0].weight.detach().clone(), it[2].weight.shape, out.shape))
        opt = torch.optim.SGD(it.parameters(), lr=0.1)
        run.track(opt=opt)
        for _ in run.steps(1):
            run.backward(it(torch.ones(1, 3)).sum())
            run.update(opt)

    ended = begun(lab, f"{source}@2", task)
    assert ended.code == 0, ended.said
    assert torch.equal(seen[0][0], states["net"]["0.weight"])
    assert "without a shape before the first batch, as made: net.2.weight, net.2.bias" in ended.said


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("front", ["", "net."])
def test_files_fill_with_and_without_the_tracked_name(
    lab: Lab, tmp_path: Path, ending: str, front: str
) -> None:
    torch.manual_seed(7)
    state = {f"{front}{name}": value for name, value in net().state_dict().items()}
    path = tmp_path / f"w.{ending}"
    if ending == "pt":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    task, found = tracking(net=net, twin=net)
    ended = begun(lab, str(path), task)
    assert ended.code == 0, ended.said
    assert torch.equal(found["net"]["2.weight"], state[f"{front}2.weight"])
    if not front:  # bare names fill every module that they fit
        assert torch.equal(found["twin"]["2.weight"], state["2.weight"])
    assert event(ended)["file"] == str(path)


def test_a_file_that_has_changed_since_is_refused(lab: Lab, tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pt")
    task, _ = tracking(net=net)
    ended = begun(lab, f"{tmp_path}/w.pt@{'0' * 16}", task)
    assert ended.code == 2
    assert "it is not the same file" in ended.said
    ended = begun(lab, f"{tmp_path}/gone.pt", task)
    assert ended.code == 2
    assert "no such file" in ended.said


def test_a_file_in_a_store_is_fetched_once(lab: Lab, tmp_path: Path) -> None:
    from crown_exp.storage import open_blobs

    torch.save(net().state_dict(), tmp_path / "w.pt")
    store = open_blobs("memory://shelf/files")
    lab.portal.call(store.put, "w.pt", (tmp_path / "w.pt").read_bytes())
    task, _ = tracking(net=net)
    first = begun(lab, "memory://shelf/files/w.pt", task)
    assert first.code == 0, first.said
    digest = event(first)["sha256"]
    lab.portal.call(store.delete, "w.pt")
    again = begun(lab, f"memory://shelf/files/w.pt@{digest[:16]}", task)
    assert again.code == 0, again.said
    missing = begun(lab, "memory://shelf/files/w.pt", task)
    assert missing.code == 2


def test_a_run_of_another_store(lab: Lab, tmp_path: Path) -> None:
    from crown_exp.storage import open_blobs

    other = Lab(lab.portal, open_blobs(str(tmp_path / "elsewhere")), tmp_path / "home2", made=7)
    source, states = saved(other, lambda: {"net": net()})
    task, found = tracking(net=net)
    ended = begun(lab, f"{tmp_path}/elsewhere/runs/{source}@2", task)
    assert ended.code == 0, ended.said
    assert same(found["net"], states["net"])
    assert event(ended)["store"] == f"{tmp_path}/elsewhere"


@pytest.mark.parametrize("how", ["run", "step", "pack", "packs", "manifest", "newer"])
def test_a_source_that_cannot_be_used_ends_it_before_the_task(lab: Lab, how: str) -> None:
    source, _ = saved(lab, lambda: {"net": net()})
    folder = lab.blobs.local_path(RunPaths(source).root)
    assert folder is not None
    named, said = f"{source}@2", "damaged"
    manifest = folder / "checkpoints/000001-000000000002.json"
    if how == "run":
        named, said = "r261124-999999@2", "has no checkpoint"
    elif how == "step":
        named, said = f"{source}@9", "no checkpoint at step 9; there are 2"
    elif how == "pack":
        pack = next((folder / "packs").iterdir())
        data = bytearray(pack.read_bytes())
        data[3] ^= 1
        pack.write_bytes(data)
        said = "does not hold the bytes"
    elif how == "packs":
        for pack in (folder / "packs").iterdir():
            pack.unlink()
        said = "is gone"
    elif how == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:-20])
    else:
        from hashlib import sha256

        tree = json.loads(manifest.read_bytes())
        del tree["sha256"]
        head = json.dumps(tree | {"format": 99}, separators=(",", ":"))[:-1].encode()
        manifest.write_bytes(head + f',"sha256":"{sha256(head).hexdigest()}"}}\n'.encode())
        said = "upgrade crown_exp"
    called: list[int] = []

    def task(run: Run) -> None:
        called.append(1)
        run.track(net=net())
        called.append(2)

    ended = begun(lab, named, task)
    assert ended.code == 2, ended.said
    assert said in ended.said
    assert called == ([1] if how == "pack" else [])
    assert "Traceback" not in ended.said


def test_a_checkpoint_that_is_another_than_was_recorded_is_refused(lab: Lab) -> None:
    source, _ = saved(lab, lambda: {"net": net()})
    task, _ = tracking(net=net)
    run = lab.make(task, {"checkpoint": {"init_from": f"{source}@2"}})
    record = lab.blobs.local_path(RunPaths(run).record)
    assert record is not None
    lineage = {"init_from": {"run": source, "step": 2, "attempt": 1, "manifest": "0" * 64}}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"lineage": lineage}))
    ended = lab.attempt(run)
    assert ended.code == 2
    assert "it is another checkpoint than when this run was recorded" in ended.said


# --- killed and resumed -----------------------------------------------------------------------------------


def learning(stop_at: int | None = None) -> Callable[[Run], dict[str, Any]]:
    def task(run: Run) -> dict[str, Any]:
        it = net()
        opt = torch.optim.Adam(it.parameters(), lr=0.05)
        run.track(net=it, opt=opt)
        teacher = copy.deepcopy(it).eval()  # what is made of it before the loop, and is not tracked
        for index in run.steps(6):
            noisy = torch.randn(8, 3) + index
            with torch.no_grad():
                wanted = teacher(noisy)
            run.backward((it(noisy) - wanted + it(noisy).pow(2)).pow(2).mean())
            run.update(opt)
            if run.step == stop_at and run.attempt == 1:
                os.kill(os.getpid(), signal.SIGTERM)
        return {"sum": [float(value.double().sum()) for value in it.state_dict().values()]}

    return task


@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_and_resumed_it_is_the_straight_run(lab: Lab, stop_at: int) -> None:
    source, _ = saved(lab, lambda: {"net": net()})
    straight = begun(lab, f"{source}@2", learning())
    assert straight.code == 0, straight.said
    plain = lab.run(learning())
    assert plain.ending.result != straight.ending.result
    run = lab.make(learning(stop_at), {"checkpoint": {"init_from": f"{source}@2"}})
    assert lab.attempt(run).code == 75
    ended = lab.attempt(run)
    assert ended.code == 0, ended.said
    assert ended.ending.result == straight.ending.result
    assert ended.said.count("weights from") == 0  # told before
    assert event(ended)


def test_ended_before_its_first_checkpoint_it_is_the_straight_run(lab: Lab) -> None:
    source, _ = saved(lab, lambda: {"net": net()})
    straight = begun(lab, f"{source}@2", learning())
    run = lab.make(learning(1), {"checkpoint": {"init_from": f"{source}@2"}})
    assert lab.attempt(run).code == 75
    folder = lab.blobs.local_path(RunPaths(run).root)
    assert folder is not None
    for path in [*(folder / "checkpoints").iterdir(), *(folder / "attempts").glob("*.end.json")]:
        path.unlink()
    for path in (folder / "log").iterdir():
        path.unlink()
    ended = lab.attempt(run, take_over=True)
    assert ended.code == 0, ended.said
    assert ended.ending.result == straight.ending.result
    assert "weights from" in ended.said


def test_a_source_that_is_gone_when_the_run_goes_on_is_said(lab: Lab) -> None:
    source, _ = saved(lab, lambda: {"net": net()})
    run = lab.make(learning(3), {"checkpoint": {"init_from": f"{source}@2"}})
    assert lab.attempt(run).code == 75
    folder = lab.blobs.local_path(RunPaths(source).root)
    assert folder is not None
    for path in (folder / "packs").iterdir():
        path.unlink()
    ended = lab.attempt(run)
    assert ended.code == 0, ended.said
    assert "warning: checkpoint.init_from" in ended.said
    assert "is put back from this run's own checkpoint" in ended.said
