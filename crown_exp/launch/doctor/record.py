"""Checks of where runs are kept: the store, its clock, and the index of runs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crown_exp.launch.doctor.base import Finding, Place
from crown_exp.launch.doctor.probe import ask
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.database.base import path_of
from crown_exp.storage.database.mounts import is_shared

CLOCK_SECONDS = 5.0
CHECK_SECONDS = 3.0
REINDEX = "crown-exp reindex"


def store(place: Place) -> Sequence[Finding]:
    """Whether the store can be written, read and cleared, and whether its clock is ours."""
    if place.settings is None:
        return []
    root = place.settings.storage.root
    if not_made(open_blobs(root, place.settings.storage.access)):
        return [Finding("store", "ok", f"none yet at {root}; the first run makes it")]
    told = ask("store", root, seconds=9.0)
    if "error" in told:
        fix = "see whether it can be reached, or set CROWN_STORAGE__ROOT to another"
        return [Finding("store", "fail", f"{root}: {told['error']}", fix)]
    wrong = [what for what in told["health"].values() if what != "ok"]
    if wrong:
        return [Finding("store", "fail", what, "set CROWN_STORAGE__ROOT") for what in wrong]
    if root.startswith("memory:"):
        what, fix = f"{root} is gone with its process", "set CROWN_STORAGE__ROOT to a folder"
        return [Finding("store", "warn", what, fix)]
    if "trip" in told:
        return [*remote(root, told), clock(told["ahead"])]
    return [Finding("store", "ok", f"{root} can be written and read"), clock(told["ahead"])]


def remote(root: str, told: Mapping[str, Any]) -> Sequence[Finding]:
    """What is told of a store that is not on this machine. told: as the probe has it."""
    took = f"{told['trip'] * 1000:,.0f} ms" if told["trip"] >= 0.0005 else "less than 1 ms"
    fit = f"{root} can be written and read, keeps create-only writes; a round trip takes {took}"
    found = [Finding("store", "ok", fit)]
    if way := told["way"]:
        region = f", region {way['region']}" if way["region"] else ""
        what = f"{way['keys']}; server {way['endpoint']}{region}"
        found.append(Finding("store keys", "ok", what))
    return found


def not_made(blobs: BlobStore) -> bool:
    """Whether the store is a folder that is not there, and can be made."""
    inside = blobs.local_path("health")
    if inside is None or inside.parent.exists():
        return False
    there = next(at for at in inside.parents if at.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def clock(ahead: float) -> Finding:
    """Whether the clocks of the store and of this machine agree. ahead: the store's, in seconds."""
    if abs(ahead) <= CLOCK_SECONDS:
        return Finding("clock", "ok", "the store's and this machine's agree")
    where = "ahead of" if ahead > 0 else "behind"
    what = f"the store's is {abs(ahead):,.0f} s {where} this machine's"
    return Finding(
        "clock", "warn", what, "sudo timedatectl set-ntp true   # on the one that is wrong"
    )


def registry(place: Place) -> Sequence[Finding]:
    """Whether the index of runs is a sound one of ours; looked at without changing it."""
    from crown_exp.registry import chosen_url

    if place.settings is None:
        return []
    path = path_of(chosen_url(place.settings))
    if not path.exists():
        return [Finding("registry", "ok", f"none yet at {path}; the first run makes it")]
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as opened:
            found = [look(opened, path)]
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_COR"))
        what = f"{path}: {error}"
        fix = REINDEX if damaged else "see whether it may be read, or set CROWN_DATABASE__URL"
        return [Finding("registry", "fail", what, fix)]
    if is_shared(path):
        what = "it is on a file system of several machines: slower, and its locks may not hold"
        fix = "set CROWN_DATABASE__URL to a file of this machine"
        found.append(Finding("registry", "warn", what, fix))
    return found


def look(opened: sqlite3.Connection, path: Path) -> Finding:
    """The tables, their revision, the journal, and whether the pages are sound."""
    from crown_exp.registry.models import REVISION
    from crown_exp.registry.opening import VERSION_TABLE

    tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
    if VERSION_TABLE not in tables:
        what = f"{path} is a database, but no registry of crown_exp"
        return Finding("registry", "fail", what, "set CROWN_DATABASE__URL to another file")
    (revision,) = opened.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() or ("",)
    if revision > REVISION:
        what = f"{path} is of a newer crown_exp (tables {revision}, this one knows {REVISION})"
        return Finding("registry", "fail", what, f"pip install -U crown-exp, or: {REINDEX}")
    (journal,) = opened.execute("PRAGMA journal_mode").fetchone()
    (count,) = opened.execute("SELECT count(*) FROM runs").fetchone()
    sound = is_sound(opened)
    if sound is False:
        return Finding("registry", "fail", f"{path} is damaged", REINDEX)
    checked = "sound" if sound else f"too large to check in {CHECK_SECONDS:g} s"
    found = f"{path}, runs: {count:,}, tables {revision}, journal {journal}, {checked}"
    return Finding("registry", "ok", found)


def is_sound(opened: sqlite3.Connection) -> bool | None:
    """SQLite's own quick check; None if it takes too long."""
    deadline = time.monotonic() + CHECK_SECONDS
    opened.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        return bool(opened.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return None
        raise
    finally:
        opened.set_progress_handler(None, 0)
