"""What a run is made of, and what keeps it from being made."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crown_exp.config import schema
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.targets import Target
from crown_exp.errors import ConfigError
from crown_exp.folder import RunPaths
from crown_exp.folder.records import SweepPlace
from crown_exp.launch.fitness import unfit
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.signals import Held, held_back
from crown_exp.launch.submit import NotMade, Order, load_config, submit, sweep_id
from crown_exp.storage.file import FileStore
from crown_exp.storage.runs import read_run


def order(*swept: str, overrides: tuple[str, ...] = (), **config: Any) -> Order:
    tree = schema.defaults() | {"task": {"_target_": "m.train", "steps": 5}} | config
    typed = ("+experiment=digits", *(overrides or swept))
    composition = Composition(tree, {"experiment": "digits"}, typed)
    checked = Checked(Target("m.train", "function"), (), whole=False)
    place = SweepPlace(id="s-1", number=1, of=2) if swept else None
    return Order(composition, checked, swept, place)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    with open_session(None) as opened:
        yield opened


def test_a_run_is_named_after_its_preset_and_what_is_swept() -> None:
    assert order().name == "digits"
    assert order("++optimizer.lr=0.1", "seed=3").name == "digits lr=0.1 seed=3"
    assert order("+experiment=digits", "seed=3").name == "digits seed=3"
    assert order("seed=3", name="mine").name == "mine"
    bare = order()
    bare = replace(bare, composition=replace(bare.composition, choices={}))
    assert bare.name == "train"


def test_a_sweep_is_the_same_when_its_values_change_and_another_when_its_keys_do() -> None:
    one = order()
    ids = {
        sweep_id(one.composition, one.checked, swept)
        for swept in (["seed=1", "++a.b=2"], ["a.b=9", "seed=7"])
    }
    assert len(ids) == 1
    assert sweep_id(one.composition, one.checked, ["seed=1"]) not in ids


def test_a_run_is_made_with_what_decides_it(session: Session) -> None:
    record = session.make(order("seed=3", seed=3, tags=["paper"]))
    stored = session.portal.call(read_run, session.blobs, record.id)
    assert stored == record
    assert (record.name, record.experiment, record.seed, record.tags) == (
        "digits seed=3",
        "digits",
        3,
        ["paper"],
    )
    assert record.overrides == ["+experiment=digits", "seed=3"]
    config = load_config(session.portal.call(session.blobs.get, f"runs/{record.id}/config.yaml"))
    assert config["task"] == {"_target_": "m.train", "steps": 5}


def test_a_seed_that_is_left_open_is_drawn_and_recorded(session: Session) -> None:
    first, second = (session.make(order(seed=None)) for _ in range(2))
    assert first.seed != second.seed
    config = load_config(session.portal.call(session.blobs.get, f"runs/{first.id}/config.yaml"))
    assert config["seed"] == first.seed


def test_nothing_is_made_of_a_config_that_holds_a_secret(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.secrets["MY_API_KEY"] = "correct-horse-battery"
    orders = [order(), order(task={"_target_": "m.train", "key": "correct-horse-battery"})]
    with pytest.raises(ConfigError, match=r"task\.key: looks like a secret") as caught:
        session.approve(orders)
    assert "correct-horse" not in str(caught.value)
    with pytest.raises(ConfigError):
        session.make(orders[1])
    assert not list(Path(session.settings.home).rglob("run.json"))


def missing_device() -> str:
    import torch

    return "mps" if torch.cuda.is_available() else "cuda"


def test_what_this_machine_cannot_do() -> None:
    tree = schema.defaults()
    assert unfit(tree) == []
    problems = unfit(tree | {"device": tree["device"] | {"kind": missing_device()}})
    assert [problem.where.partition(".")[0] for problem in problems] == ["device"]


def test_all_orders_are_approved_before_any_is_made(session: Session) -> None:
    away = schema.defaults()["compute"] | {"executor": "skypilot", "infra": ["awz"]}
    wrong = schema.defaults()["device"] | {"kind": missing_device()}
    with pytest.raises(ConfigError) as caught:
        session.approve([order(), order(compute=away), order(device=wrong)])
    assert [it.where for it in caught.value.problems] == ["device", "compute.infra"]
    assert not list(Path(session.settings.home).rglob("run.json"))


def test_a_run_elsewhere_is_not_held_against_this_machine(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here are no GPUs, and no SkyPilot either: the last is told, the first is not."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    Path("sky.py").write_text("raise ImportError('No module named sky')\n")
    gpu = {"executor": "skypilot", "accelerators": ["A100:1"], "shared": True}
    config = schema.defaults()
    far = order(
        compute=config["compute"] | gpu, device=config["device"] | {"kind": "cuda", "precision": "tf32"}
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        session.approve([far])
    (problem,) = caught.value.problems
    assert "SkyPilot is not installed" in problem.what


class Interrupted(FileStore):
    """Ctrl-C comes while the first blob is written; that takes until it is noted."""

    sent = False
    held: Held

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        import anyio

        await super().put(path, data, create=create)
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)
            while not self.held.asked():
                await anyio.sleep(0.01)


def files(store: FileStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_ctrl_c_while_a_run_is_recorded_leaves_nothing_half_done(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = session.blobs = Interrupted(Path(session.settings.home) / "store")

    @contextmanager
    def noting() -> Iterator[Held]:
        with held_back() as store.held:
            yield store.held

    monkeypatch.setattr("crown_exp.launch.session.held_back", noting)
    with pytest.raises(KeyboardInterrupt):
        session.make(order())
    assert store.sent
    assert files(store) == []
    assert session.made is None
    assert session.make(order()) == session.made  # and the next one is made


def test_a_stop_that_was_asked_for_undoes_what_was_written(session: Session) -> None:
    with pytest.raises(NotMade):
        session.portal.call(
            submit, session.blobs, order(),
            user="me", code=session.code, clock=session.clock, asked=lambda: True,
        )  # fmt: skip
    assert session.portal.call(session.blobs.list, "") == []


def test_a_run_that_did_not_begin_is_named(session: Session) -> None:
    assert session.not_begun() == ""
    record = session.make(order())
    folder = f".crown/store/runs/{record.id}"
    assert session.not_begun() == (
        f"{record.id} was recorded but did not begin; folder {folder}; "
        f"next crown-exp resume {record.id.partition('-')[2]}\n"
    )
    session.portal.call(session.blobs.put, RunPaths(record.id).attempt(1), b"{}")
    assert session.not_begun() == ""
