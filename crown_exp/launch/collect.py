"""How a run ended, read from its folder: whoever ran it may be gone."""

from __future__ import annotations

import signal

from crown_exp.folder import RunRecord
from crown_exp.launch.invocation import Ended
from crown_exp.outcome import ExitCode
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import read_facts


async def collect(blobs: BlobStore, record: RunRecord, status: int) -> Ended:
    """The end of a run whose process ended with `status` (negative: killed by that signal)."""
    facts = await read_facts(blobs, record.id)
    if facts.result is not None and status == ExitCode.OK:
        return Ended(record.id, record.name, status, facts.result.result)
    end = max(facts.ends, key=lambda item: item.attempt, default=None)
    if status < 0:
        killed = f"its process was killed by {signal.Signals(-status).name}"
        return Ended(record.id, record.name, int(ExitCode.INFRASTRUCTURE), None, killed)
    reason = end.reason if end else "its process ended before the task began"
    return Ended(record.id, record.name, status, None, reason)
