"""From a URL to the store it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec

from crown_exp.errors import SettingsError
from crown_exp.folder.urls import HOLDS_CREDENTIALS, file_path, holds_credentials
from crown_exp.storage.base import BlobStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KNOWN = "known are s3://bucket/prefix, file:///path, a plain path and memory://name"


def open_blobs(url: str, access: Mapping[str, str] | None = None) -> BlobStore:
    """The store at `url`: `s3://bucket/prefix`, `file:///path`, a plain path, `memory://name`.

    A `~` in a path is the home folder. s3 is reached through obstore, where it is installed, and all else that
    fsspec knows through fsspec. access: the variables that tell how a remote
    store is reached (`config.settings.store_access`); without them it has its vendor's defaults.
    Nothing is read or written. Raises SettingsError for what names no store.
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
    return _open_remote(scheme, f"{scheme}://{rest}", access)


_NO_STORES = ("ftp", "http", "https")


def _open_remote(scheme: str, url: str, access: Mapping[str, str] | None) -> BlobStore:
    if holds_credentials(url):  # and would be shown wherever the store is
        raise SettingsError(f"CROWN_STORAGE__ROOT: {HOLDS_CREDENTIALS}")
    if scheme in _NO_STORES:
        what = f"{scheme}://… cannot be written as a store is"
        raise SettingsError(f"CROWN_STORAGE__ROOT: {what}; {_KNOWN}")
    if scheme == "s3" and "@" not in url and find_spec("obstore") is not None:
        from crown_exp.storage.objects import ObjectStore

        return ObjectStore(url, access)
    from crown_exp.storage.through_fsspec import FsspecStore

    return FsspecStore(url, access)


def _open_path(path: str) -> BlobStore:
    from crown_exp.storage.file import FileStore

    if not path:
        raise SettingsError(f"CROWN_STORAGE__ROOT: an empty path is no store; {_KNOWN}")
    return FileStore(path)


def _path_of(url: str) -> str:
    try:
        return file_path(url)
    except ValueError as error:
        raise SettingsError(f"CROWN_STORAGE__ROOT: {error}") from None
