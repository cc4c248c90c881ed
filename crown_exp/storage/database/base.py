"""What can be said of a database without opening it: its URL, its errors."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from crown_exp.errors import SettingsError, StoreError

_SQLITE = re.compile(r"sqlite(?:\+aiosqlite)?:///(?P<path>[^?]+)")
_KNOWN = "known is sqlite+aiosqlite:///path"


class DatabaseError(StoreError):
    """The database cannot be opened, read or written."""


class Damaged(DatabaseError):
    """What is there is no database, or a damaged one."""


class Replaced(DatabaseError):
    """Another content has taken the place of the one that was read."""


def database_url(path: Path) -> str:
    """The URL of a database in a file."""
    return f"sqlite+aiosqlite:///{quote(str(path))}"


def path_of(url: str) -> Path:
    """The file of an embedded database. Raises SettingsError if the URL names none."""
    match = _SQLITE.fullmatch(url)
    if match is None:
        # Not the whole URL: it may hold a password.
        scheme = url.partition("://")[0] if "://" in url else ""
        what = f"no database speaks {scheme}" if scheme else "expected a URL"
        raise SettingsError(f"CROWN_DATABASE__URL: {what}; {_KNOWN}")
    return Path(unquote(match["path"])).expanduser()
