"""Make a run: everything that decides it goes into its folder, run.json last."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from crown_exp.clock import Clock
from crown_exp.compute.code import CodeSnapshot
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.identity import deciding_parts
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.folder.records import CodeState, SweepPlace
from crown_exp.identity import new_run_id, short, signature
from crown_exp.storage import AlreadyExists, BlobStore
from crown_exp.storage.runs import write_run
from crown_exp.tracking.run_log import to_stderr


@dataclass(frozen=True)
class Fork:
    """The state that a run is to begin with: a run's checkpoint at a step; None: its newest that verifies."""

    run: str
    step: int | None = None


@dataclass(frozen=True)
class Order:
    """One run to be made: its config, what was checked of it, its place in a sweep, what it begins with.

    fork: a whole state. weights: those that `checkpoint.init_from` names, as they are recorded. env: variables
    that Hydra sets for the job (`hydra.job.env_set`), which are no part of its config.
    """

    composition: Composition
    checked: Checked
    swept: Sequence[str] = ()
    sweep: SweepPlace | None = None
    fork: Fork | None = None
    weights: Mapping[str, Any] | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def experiment(self) -> str | None:
        """The preset it was composed from."""
        return self.composition.choices.get("experiment")

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is not to be carried out on this machine."""
        return bool(self.composition.config["compute"]["executor"] != "local")

    @property
    def name(self) -> str:
        """What people call the run: `name`, or its experiment and swept values."""
        given = self.composition.config["name"]
        if given:
            return str(given)
        base = self.experiment or self.checked.target.name.rpartition(".")[2]
        told = (short_override(item) for item in self.swept if item != f"+experiment={base}")
        return " ".join([base, *told])


def sweep_id(composition: Composition, checked: Checked, swept: Sequence[str]) -> str:
    """The id of a sweep: what is run and which keys vary, not their values, so that a wider one is the same."""
    keys = sorted(item.partition("=")[0].lstrip("+") for item in swept)
    parts = {
        "experiment": composition.choices.get("experiment"),
        "task": checked.target.name,
        "keys": keys,
    }
    return f"s-{short(signature(parts))}"


def short_override(override: str) -> str:
    """`++optimizer.lr=0.001` as `lr=0.001`."""
    key, _, value = override.partition("=")
    return f"{key.lstrip('+').rpartition('.')[2]}={value}"


class NotMade(CrownError):
    """A stop was asked for while a run was being made: nothing is left of it."""

    exit_code = 130


async def submit(
    blobs: BlobStore,
    order: Order,
    *,
    user: str,
    code: CodeSnapshot,
    clock: Clock,
    asked: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Write the folder of a new run, whole or not at all.

    Raises StoreError if the store cannot take it, NotMade if a stop was `asked` for meanwhile; for a fork
    ConfigError if there is no such checkpoint, Damaged if none of that step verifies.
    """
    config = with_seed(order.composition.config)
    while True:
        now = clock.now()
        paths = RunPaths(new_run_id(now))
        try:
            await write_code(blobs, paths, code, asked)
            lineage = await adopted(blobs, paths, order.fork)
            if order.weights:
                lineage = {"init_from": dict(order.weights)}
            record = made(order, config, paths.run_id, now, lineage, user=user, code=code)
            await write_run(blobs, record, dump_config(config))
        except AlreadyExists:
            continue  # an id drawn twice
        except CrownError:
            await remove(blobs, f"{paths.root}/")
            raise
        return record


def made(
    order: Order, config: Mapping[str, Any], run_id: str, now: datetime,
    lineage: dict[str, Any] | None, *, user: str, code: CodeSnapshot,
) -> RunRecord:  # fmt: skip
    """The record of a new run. What it is forked from is signed, too: a fork's result is another.

    The weights that it begins with are named in its config.
    """
    parts = parts_of(order, config)
    parts |= {"lineage": lineage} if lineage and order.fork else {}
    return RunRecord(
        id=run_id, name=order.name, experiment=order.experiment, user=user, created=now,
        task=order.checked.target.name, signature=signature(parts),
        overrides=list(order.composition.overrides), tags=list(config["tags"]),
        seed=config["seed"], compute=config["compute"]["name"], sweep=order.sweep, lineage=lineage,
        code=CodeState(commit=code.commit, dirty=code.dirty, snapshot=code.digest),
        bound=list(order.checked.bound),
    )  # fmt: skip


def parts_of(order: Order, config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result of an order with this config, its seed drawn; but for what it is forked from."""
    return deciding_parts(config, order.checked.bound, config["identity"]["ignore"])


def signature_of(order: Order) -> str | None:
    """The signature of the run that an order makes; None if no run made so far can equal it.

    Nobody knows the seed that `seed=null` draws, nor which state of a run a fork will find. The weights that
    it begins with are to be looked up before, as `Session.settled` does.
    """
    config = order.composition.config
    if config["seed"] is None or order.fork is not None:
        return None
    return signature(parts_of(order, config))


async def adopted(blobs: BlobStore, paths: RunPaths, fork: Fork | None) -> dict[str, Any] | None:
    """Put the state that a fork begins with into its folder; the lineage: from which run, step and attempt."""
    if fork is None:
        return None
    from crown_exp.checkpoints.listing import adopt

    manifest = await adopt(blobs, RunPaths(fork.run), paths, fork.step, to_stderr)
    assert manifest.parent is not None  # its name: <run>/<attempt>-<step>
    attempt = int(manifest.parent.name.rpartition("/")[2].partition("-")[0])
    return {"fork": {"run": fork.run, "step": manifest.step, "attempt": attempt}}


async def remove(blobs: BlobStore, prefix: str) -> None:
    """What was written of a run that is not to be."""
    with suppress(StoreError):
        for entry in await blobs.list(prefix):
            await blobs.delete(entry.path)


def with_seed(config: dict[str, Any]) -> dict[str, Any]:
    """The config with a seed: `seed=null` draws one."""
    return config if config["seed"] is not None else config | {"seed": secrets.randbelow(2**31)}


async def write_code(
    blobs: BlobStore, paths: RunPaths, code: CodeSnapshot, asked: Callable[[], bool]
) -> None:
    """The code as it is now, so that the run can be understood and repeated. Raises NotMade."""
    for path, data in (
        (paths.code_commit, f"{code.commit or ''}\n{code.prefix}\n".encode()),
        (paths.code_diff, code.diff),
        (paths.code_untracked, code.untracked),
        (paths.code_lock, code.lock),
    ):
        await blobs.put(path, data)
        if asked():
            raise NotMade("stopped before the run was recorded; nothing is left of it")


def dump_config(config: Mapping[str, Any]) -> bytes:
    """config.yaml: the bytes that run."""
    header = b"# What was composed when the run was made, resolved; the run reads this and nothing else.\n"
    text: bytes = yaml.dump(
        dict(config), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    return header + text


def load_config(data: bytes) -> dict[str, Any]:
    """The inverse of `dump_config`."""
    tree: dict[str, Any] = yaml.load(data, Loader=yaml.CSafeLoader)
    return tree
