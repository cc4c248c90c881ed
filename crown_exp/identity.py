"""Who a run is: its id (one pursuit) and its signature (what decides the result)."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""No i, l, o, 0, 1: an id is read aloud and typed."""

SIGNATURE_VERSION = "v1"


def new_run_id(now: datetime, choice: Callable[[str], str] = secrets.choice) -> str:
    """An id such as `r261122-k7f3q2`: sortable by day, letter first (a job's name must start so)."""
    return f"r{now:%y%m%d}-" + "".join(choice(ALPHABET) for _ in range(6))


def day_of(run_id: str) -> datetime | None:
    """The day, in UTC, of which an id speaks: by the clock of who made the run; None if of none."""
    text = run_id.partition("-")[0]
    try:
        return datetime.strptime(text, "r%y%m%d").replace(tzinfo=UTC) if len(text) == 7 else None
    except ValueError:
        return None


def canonical_json(value: object) -> str:
    """The one JSON text of a plain value: keys sorted, whole floats as integers, no spaces.

    nan and infinities become the strings "nan", "inf", "-inf", which no number is.
    Raises TypeError for anything that is not a mapping, sequence, string, number, bool or None.
    """
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _canonical(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical JSON")


def signature(parts: Mapping[str, object]) -> str:
    """`v1:` and the sha256 of what decides the result of a config (see `crown_exp.config.identity`)."""
    digest = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    return f"{SIGNATURE_VERSION}:{digest}"


def short(signature: str) -> str:
    """The twelve hex digits that are shown."""
    return signature.partition(":")[2][:12]
