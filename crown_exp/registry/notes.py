"""Tags and notes that people give a run: kept in its folder, so that a lost database takes none along.

    runs/<id>/notes/000001.json   {"format": 1, "time": …, "user": …, "add": […], "remove": […], "note": …}

Each change is a record of its own that can only be created, and the next free number orders it: so two
people who tag a run at once both succeed, and no clock decides which came last. What holds is what all of
them make in order, beginning with the tags the run was composed with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from crown_exp.clock import isoformat
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import RunPaths
from crown_exp.storage import AlreadyExists, BlobStore

FORMAT = 1
LONGEST_TAG = 64


@dataclass(frozen=True, slots=True)
class Change:
    """Tags added and taken away, and the note that replaces the one before (None: it stays, "": it goes)."""

    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    note: str | None = None


def applied(tags: Iterable[str], changes: Iterable[Change]) -> tuple[list[str], str]:
    """The tags and the note after all changes, in order; tags sorted."""
    found, note = set(tags), ""
    for change in changes:
        found = (found - set(change.remove)) | set(change.add)
        note = note if change.note is None else change.note
    return sorted(found), note


async def write_change(
    blobs: BlobStore, run_id: str, change: Change, *, user: str, now: datetime
) -> None:
    """Record a change of a run. Raises ConfigError for a tag that is none, StoreError as `put`."""
    for tag in (*change.add, *change.remove):
        check_tag(tag)
    tree = {
        "format": FORMAT,
        "time": isoformat(now),
        "user": user,
        "add": list(change.add),
        "remove": list(change.remove),
        "note": change.note,
    }
    data = (json.dumps(tree, indent=2) + "\n").encode()
    number = len(await blobs.list(folder(run_id))) + 1
    while True:
        try:
            await blobs.put(path(run_id, number), data, create=True)
        except AlreadyExists:
            number += 1
        else:
            return


def read_change(data: bytes, source: str) -> Change:
    """A change from its record. Raises CrownError if that is damaged or of a newer format."""
    try:
        tree = json.loads(data)
        if tree["format"] > FORMAT:
            raise CrownError(f"{source}: has format {tree['format']}; upgrade crown_exp")
        note = tree["note"]
        return Change(
            [str(tag) for tag in tree["add"]],
            [str(tag) for tag in tree["remove"]],
            None if note is None else str(note),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CrownError(f"{source}: damaged, not the record of a change") from None


def check_tag(tag: str) -> None:
    """Raises ConfigError for what cannot be typed after `tag:`."""
    if not (0 < len(tag) <= LONGEST_TAG and tag.isprintable() and not set(tag) & set(" ,\"'")):
        what = f"expected 1 to {LONGEST_TAG} printable characters without spaces, commas and quotes"
        raise ConfigError.of(f"tag {tag!r}", what)


def folder(run_id: str) -> str:
    """The prefix of all changes of a run."""
    return f"{RunPaths(run_id).root}/notes/"


def path(run_id: str, number: int) -> str:
    """Where change `number` of a run is, counted from 1."""
    return f"{folder(run_id)}{number:06}.json"
