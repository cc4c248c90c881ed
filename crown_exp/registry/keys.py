"""Names of params, results and metrics, and the numbers that stand for them in the big tables.

A number is the hash of its name, not a count: so two processes, or an index made anew, give the same name
the same number without asking each other, and nothing need be remembered that could go stale.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

from crown_exp.storage.database.columns import storable

Kind = Literal["param", "result", "metric"]

LONGEST = 512
"""Characters of a name that are kept: PostgreSQL indexes no more than some 2,700 bytes."""


@lru_cache(maxsize=65536)
def key_id(kind: Kind, name: str) -> int:
    """The number of a name: 63 bits, so that among a million names two alike are one in ten million."""
    digest = hashlib.blake2b(f"{kind}\0{kept(name)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def kept(name: str) -> str:
    """A name as the database takes it: any text; a very long one by its beginning and its hash."""
    name = storable(name)
    if len(name) <= LONGEST:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{name[: LONGEST - 17]}…{digest}"


def key_row(kind: Kind, name: str) -> tuple[int, str, str, str]:
    """The row of a name in the table of keys."""
    name = kept(name)
    leaf = name if kind == "metric" else name.rpartition(".")[2]
    return key_id(kind, name), kind, name, leaf
