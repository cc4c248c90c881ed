"""The weights that a run is to begin with, looked up before it is made: which bytes they are, if they fit.

`checkpoint.init_from` is recorded in its final form (`crown_exp.config.weights_source`), so that a rerun
begins with the same weights whatever has become of `latest` and `best` since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from crown_exp.checkpoints.base import Best
from crown_exp.checkpoints.renaming import renamed
from crown_exp.checkpoints.restore import Number
from crown_exp.checkpoints.weights_of import Weights, candidates, verify, weights_at
from crown_exp.config.changes import changed, filled
from crown_exp.config.schema import defaults
from crown_exp.config.units import parse_best
from crown_exp.config.weights_source import (
    KEY,
    LATEST,
    MAP,
    PIN,
    FileSource,
    RunSource,
    parse_source,
)
from crown_exp.errors import ConfigError, Problem, SettingsError, TaskError
from crown_exp.folder import RunPaths
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.launch.submit import load_config
from crown_exp.storage import BlobStore, NotFound, open_blobs
from crown_exp.storage.fetched import as_file
from crown_exp.storage.runs import find_run, read_facts
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from crown_exp.launch.session import Session
    from crown_exp.launch.submit import Order


@dataclass(frozen=True)
class Settled:
    """Weights that are there. text: their name in its final form. lineage: what is recorded of them."""

    text: str
    lineage: Mapping[str, Any]


def settled(session: Session, order: Order) -> Order:
    """The order with its weights looked up, as it can be made. Raises ConfigError, StoreError."""
    checkpoint = order.composition.config["checkpoint"]
    text, rules = checkpoint["init_from"], checkpoint["init_map"]
    if order.fork is not None:
        refuse_typed(order)
        return order
    if not text:
        if rules:
            raise ConfigError.of(MAP, f"maps the names of {KEY}, which is not set")
        return order
    key = (text, tuple(rules.items()))
    if key not in session.weights:
        session.weights[key] = looked_up(session, text, rules)
    found = session.weights[key]
    return replace(order, composition=replaced(order, found.text), weights=found.lineage)


def named(session: Session, order: Order) -> Order:
    """The order with the weights in their final form, to be held against a recorded config.

    Whether they are still there is not asked: a run that goes on has its own state. Raises ConfigError.
    """
    text = order.composition.config["checkpoint"]["init_from"]
    if not text:
        return order
    asked = parse_source(text)
    if isinstance(asked, FileSource):
        final: RunSource | FileSource = asked if asked.pin else of_file(session, asked, {})[0]
    else:
        blobs, asked = at_home(session, asked)
        final = asked
        if asked.best or asked.step is None:
            numbers = numbers_of(session, blobs, asked)
            final = replace(asked, step=numbers[0][1], best=False)
    return replace(order, composition=replaced(order, str(final)))


def from_elsewhere(config: Mapping[str, Any], store: str) -> dict[str, Any]:
    """A recorded config as it is carried out in another store: what it names of its own, of `store`."""
    text = config["checkpoint"]["init_from"]
    asked = parse_source(text) if text else None
    if not isinstance(asked, RunSource) or asked.store:
        return dict(config)
    text = str(replace(asked, store=store))
    return {**config, "checkpoint": {**config["checkpoint"], "init_from": text}}


def replaced(order: Order, text: str) -> Any:
    """The composition with another text for the key, and rules whose keys are all texts."""
    composition = order.composition
    checkpoint = dict(composition.config["checkpoint"])
    rules = {str(there): here for there, here in checkpoint["init_map"].items()}
    checkpoint |= {"init_from": text, "init_map": rules}
    return replace(composition, config=composition.config | {"checkpoint": checkpoint})


def refuse_typed(order: Order) -> None:
    """Raises ConfigError if a fork is asked to begin with other weights than its state's."""
    for text in order.swept:
        key = text.lstrip("+~").partition("=")[0]
        if key.startswith((KEY, MAP)):
            what = "a fork begins with the whole state of that run: leave it out, or make a new run"
            raise ConfigError.of(key, what)


def looked_up(session: Session, text: str, rules: Mapping[str, str | None]) -> Settled:
    """The weights that a text names. Raises ConfigError naming the key, StoreError."""
    try:
        asked = parse_source(text)
        if isinstance(asked, FileSource):
            final, lineage = of_file(session, asked, rules)
            return Settled(str(final), lineage)
        return of_run(session, asked, rules)
    except ConfigError as error:
        raise ConfigError([told(text, problem) for problem in error.problems]) from None
    except (Damaged, NewerFormat, SettingsError, TaskError, NotFound) as error:
        raise ConfigError.of(
            f"{KEY}={text}", str(error).removeprefix("CROWN_STORAGE__ROOT: ")
        ) from None


def told(text: str, problem: Problem) -> Problem:
    """A problem with the key before it, unless it has one."""
    if problem.where.startswith((KEY, MAP)):
        return problem
    said = f"{problem.where}: {problem.what}" if problem.where not in text else problem.what
    return Problem(f"{KEY}={text}", said, problem.source)


# --- of a run -------------------------------------------------------------------------------------------


def of_run(session: Session, asked: RunSource, rules: Mapping[str, str | None]) -> Settled:
    """The checkpoint, verified: every byte if it lies on this machine, else that all of it is there.

    Of several that were asked for the first that verifies. Raises ConfigError, Damaged, NewerFormat,
    StoreError.
    """
    blobs, asked = at_home(session, asked)
    paths, why = RunPaths(asked.run), ""
    numbers = numbers_of(session, blobs, asked)
    for number in numbers:
        try:
            weights = session.portal.call(verified, blobs, paths, number)
        except (Damaged, NotFound) as error:
            why = why or str(error)
            continue
        if why:
            to_stderr(f"{KEY}: step {number[1]}, as the one after it is damaged ({why})")
        if not weights.tensors:
            raise ConfigError.of(asked.run, "tracks no module, so it has no weights to begin with")
        renamed(list(weights.tensors), rules)
        final = replace(asked, step=number[1], best=False)
        return Settled(str(final), lineage_of(final, number, weights))
    raise Damaged(f"the checkpoint is damaged ({why}); choose another step")


def lineage_of(final: RunSource, number: Number, weights: Weights) -> dict[str, Any]:
    """What is recorded of a checkpoint."""
    found = {"run": final.run, "step": number[1], "attempt": number[0], "manifest": weights.sha256}
    return found | ({"store": final.store} if final.store else {})


async def verified(blobs: BlobStore, paths: RunPaths, number: Number) -> Weights:
    """The weights of a checkpoint whose packs are there. Raises as `of_run`."""
    weights = await weights_at(blobs, paths, number)
    local = blobs.local_path(paths.root) is not None
    await verify(blobs, weights, every_byte=local)
    return weights


def at_home(session: Session, asked: RunSource) -> tuple[BlobStore, RunSource]:
    """The store of a run, and the run by its whole id; of the session's own store that is all of its name.

    Raises ConfigError if there is no such run.
    """
    from crown_exp.launch.recorded import newest_run

    blobs, call = session.blobs, session.portal.call
    if asked.store or not session.keeps:  # a debug run's own store has no other run
        settings = session.settings.storage
        blobs = open_blobs(asked.store or settings.root, settings.access)
    store = None if blobs.url == session.blobs.url else blobs.url
    if asked.run == LATEST:
        newest = call(newest_run, blobs, lambda record: True)
        if newest is None:
            raise ConfigError.of(LATEST, f"there is no run in {blobs.url}")
        return blobs, replace(asked, store=store, run=newest.id)
    return blobs, replace(asked, store=store, run=call(find_run, blobs, asked.run))


def numbers_of(session: Session, blobs: BlobStore, asked: RunSource) -> list[Number]:
    """The checkpoints that were asked for, of a run by its whole id. Raises ConfigError."""
    paths, call = RunPaths(asked.run), session.portal.call
    best = call(best_by, blobs, paths) if asked.best else None
    return call(candidates, blobs, paths, asked.step, best)


async def best_by(blobs: BlobStore, paths: RunPaths) -> Best:
    """What a run's own config says is the best. Raises ConfigError if it says nothing."""
    facts = await read_facts(blobs, paths.run_id)
    try:
        stored = load_config(await blobs.get(paths.config))
        config = changed(filled(stored, defaults()), facts.changes)
    except (YAMLError, UnicodeDecodeError, AttributeError):
        raise Damaged(f"{paths.config}: damaged, not the config that was recorded") from None
    wanted = config["checkpoint"]["keep_best"]
    if wanted is None:
        what = "its config has no checkpoint.keep_best, so none is the best; name a step"
        raise ConfigError.of(f"{paths.run_id}@best", what)
    metric, greatest = parse_best(wanted, "checkpoint.keep_best")
    return Best(metric, greatest)


# --- of a file ------------------------------------------------------------------------------------------


def of_file(
    session: Session, asked: FileSource, rules: Mapping[str, str | None]
) -> tuple[FileSource, dict[str, Any]]:
    """The file by its whole path and what it holds, and what is recorded of it.

    Raises ConfigError, SettingsError, TaskError for what is no file of weights, NotFound, StoreError.
    """
    from crown_exp.devices.weights import open_weights

    access = session.settings.storage.access
    path, digest = session.portal.call(
        as_file, asked.url, session.home / "weights", access, asked.pin
    )
    if not digest.startswith(asked.pin):
        raise ConfigError.of(str(asked), f"its sha256 is {digest[:PIN]}: it is another file now")
    try:
        names = list(open_weights(path))
    except TaskError as error:
        raise TaskError(str(error).removeprefix(f"weights={path}: ")) from None
    renamed(names, rules)
    url = asked.url if asked.is_remote else str(Path(path).absolute())
    return FileSource(url, digest[:PIN]), {"file": url, "sha256": digest}
