"""What became of the code of a recorded run: one line with the files that differ."""

from __future__ import annotations

from collections.abc import Sequence

from crown_exp.compute.difference import Changed, Snapshot, difference, read_snapshot
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import Facts
from crown_exp.launch.session import Session

SHOWN = 4
"""How many files are named."""


def code_change(session: Session, facts: Facts) -> str:
    """How the project's code differs from what the run was made with; "" if it does not.

    Of an attempt that has an end it is known which files it imported; then only those count. Code that cannot
    be compared counts as changed: the line says why it cannot.
    """
    record = facts.run
    since = f"since {record.id} was made"
    try:
        code = session.code
    except ConfigError as error:
        return f"whether the code changed {since} cannot be told: {error.problems[0]}"
    if record.code is None or record.code["snapshot"] == code.digest:
        return ""
    try:
        old = session.portal.call(read_snapshot, session.blobs, record.id)
        if old is None:
            return f"the code changed {since}, which is not in its folder"
        new = Snapshot(code.commit, code.prefix, code.diff, code.untracked)
        changed = difference(session.root, old, new).files
    except CrownError as error:
        return f"the code changed {since}: {error}"
    imported = {name for end in facts.ends if end.code for name in end.code["files"]}
    files = [file for file in changed if not imported or file.path in imported]
    return f"the code changed {since}: {stat(files)}" if files else ""


def stat(files: Sequence[Changed]) -> str:
    """`tasks.py +3 -1, conf/x.yaml +1 -0 and 2 more files`."""
    named = ", ".join(map(counted, files[:SHOWN]))
    more = len(files) - SHOWN
    return f"{named} and {more} more file{'' if more == 1 else 's'}" if more > 0 else named


def counted(file: Changed) -> str:
    """A file with the lines that came and went, if they can be counted."""
    return file.path if file.added is None else f"{file.path} +{file.added} -{file.removed}"
