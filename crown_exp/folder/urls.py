"""What is to be known of a store's URL before it is opened, or shown. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

HOLDS_CREDENTIALS = (
    "there are credentials in the URL; they belong in CROWN_STORAGE__ACCESS_KEY_ID and "
    "CROWN_STORAGE__SECRET_ACCESS_KEY, or where the vendor keeps them"
)

RUN_FOLDER = re.compile(r"(.+)/runs/([^/]+)/?")
"""The store, and the run, of the URL or path of a run's folder."""

_REMOTE = re.compile(r"(?!file:|memory:)([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_STEP = re.compile(r"(/runs/[^/@:]+/?)@[^/@:]*\Z")
_BUCKETS = ("s3", "s3a", "gs", "gcs", "az")
"""Schemes where nothing but a bucket can stand first; others have users (sftp) or accounts (abfs)."""


def holds_credentials(url: str) -> bool:
    """Whether there may be a secret in a URL, so that it is not to be shown, nor taken for a store's.

    A secret of AWS may hold slashes: any `@` behind a `:` is suspect, but for the one before a run's step.
    """
    match = _REMOTE.match(url)
    if match is None:
        return False
    rest = _STEP.sub(r"\1", match[2])
    if re.search(r":.*@", rest, re.DOTALL):
        return True
    return match[1].lower() in _BUCKETS and "@" in rest.partition("/")[0]


def file_path(url: str) -> str:
    """The path that a file:// URL names. Raises ValueError if it has none, or another machine's."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError(
            f"a file:// URL has three slashes and an absolute path, as file:///data/store; got {url}"
        )
    return unquote(parts.path)
