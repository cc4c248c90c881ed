"""From a URL to the store it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from crown_exp.errors import SettingsError
from crown_exp.storage.base import BlobStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KNOWN = "known are file:///path, a plain path and memory://name"


def open_blobs(url: str, access: Mapping[str, str] | None = None) -> BlobStore:
    """The store at `url`: `file:///path`, a plain path (`~` is the home folder), `memory://name`.

    access: the variables that tell how a remote store is reached (`config.settings.store_access`); without
    them it has its vendor's defaults. Nothing is read or written. Raises SettingsError for anything else.
    """
    match = _SCHEME.match(url)
    if match is None:
        return _open_path(url)
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme == "file":
        return _open_path(_path_of(url))
    if scheme == "memory":
        from crown_exp.storage.memory import MemoryStore

        return MemoryStore(rest)
    # Not the whole URL: it may hold a password.
    raise SettingsError(f"CROWN_STORAGE__ROOT: no store speaks {scheme}://; {_KNOWN}")


def _open_path(path: str) -> BlobStore:
    from crown_exp.storage.file import FileStore

    if not path:
        raise SettingsError(f"CROWN_STORAGE__ROOT: an empty path is no store; {_KNOWN}")
    return FileStore(path)


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise SettingsError(
            "CROWN_STORAGE__ROOT: a file:// URL has three slashes and an absolute path, "
            f"as file:///data/store; got {url}"
        )
    return unquote(parts.path)
