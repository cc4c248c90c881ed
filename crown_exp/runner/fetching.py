"""Data that a task asks for by the URL of its upload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crown_exp.config.project import find_project
from crown_exp.config.settings import store_access
from crown_exp.errors import TaskError
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.storage.uploads import fetch, parse_upload
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from crown_exp.runner.attempt import Attempt


class Fetching:
    """Gives the place of data on this machine.

    blobs: the run's store. folder: where what lies in a remote store is kept. access: how others than the
    run's own are reached, asked for only if one is.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        folder: Path,
        access: Callable[[], Mapping[str, str]],
    ) -> None:
        self.portal, self.blobs, self.folder, self.access = portal, blobs, folder, access

    def __call__(self, source: str) -> Path:
        """A path as it is, an upload's URL fetched. Raises TaskError, StoreError, Damaged."""
        text = str(source)
        found = parse_upload(text)
        if "://" not in text:
            return Path(text).expanduser()
        if found is None:
            what = "expected a path, or a URL that crown-exp upload printed"
            raise TaskError(f"run.fetch({text!r}): {what}")
        store, path = found
        blobs = self.blobs if store == self.blobs.url else open_blobs(store, self.access())
        if blobs.local_path(path) is None and not (self.folder / path.split("/")[1]).exists():
            to_stderr(f"fetching {text}")
        return self.portal.call(fetch, blobs, path, self.folder)


def fetching_of(of: Attempt) -> Fetching:
    """That of an attempt."""
    return Fetching(
        of.portal, of.blobs, of.home / "data", access=lambda: store_access(find_project(of.root))
    )
