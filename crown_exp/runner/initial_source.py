"""Where the weights come from that a run begins with: a checkpoint of another run, or a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from crown_exp.checkpoints.weights_of import Weights, candidates, read_tensors, verify, weights_at
from crown_exp.config.weights_source import FileSource, RunSource, parse_source
from crown_exp.errors import ConfigError, NotResumable, SettingsError, TaskError
from crown_exp.folder import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage import BlobStore, NotFound, Portal, open_blobs
from crown_exp.storage.fetched import as_file

Access = Callable[[], Mapping[str, str]]
"""How remote stores are reached, asked for only if one is."""

Lineage = Mapping[str, Any]
"""What was recorded of the source when the run was made."""


class Form(NamedTuple):
    """Shape and dtype of a tensor: `float32`."""

    shape: tuple[int, ...]
    dtype: str


class Source(Protocol):
    """Tensors by name."""

    @property
    def words(self) -> str:
        """What it is called."""

    @property
    def bare(self) -> bool:
        """Whether its names may lack that of a tracked module."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What is recorded of it."""

    @property
    def forms(self) -> Mapping[str, Form]:
        """Every tensor there."""

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Any]]:
        """These tensors, verified, each good until the next. Raises Damaged, StoreError."""


@dataclass(frozen=True)
class OfRun:
    """A checkpoint's."""

    portal: Portal
    blobs: BlobStore
    weights: Weights
    words: str
    origin: Mapping[str, Any]
    bare: bool = False

    @property
    def forms(self) -> Mapping[str, Form]:
        """From its manifest."""
        return {name: Form(it.shape, it.dtype) for name, it in self.weights.tensors.items()}

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Pack by pack."""
        return read_tensors(self.portal, self.blobs, self.weights, names)


@dataclass(frozen=True)
class OfFile:
    """A file's, which is mapped into memory."""

    views: Mapping[str, Any]
    words: str
    origin: Mapping[str, Any]
    bare: bool = True

    @property
    def forms(self) -> Mapping[str, Form]:
        """From its views."""
        return {
            name: Form(tuple(view.shape), str(view.dtype).removeprefix("torch."))
            for name, view in self.views.items()
        }

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Any]]:
        """In the order asked for."""
        from crown_exp.devices.weights import forget

        for name in names:
            yield name, self.views[name]
            forget(self.views[name])


def open_source(
    portal: Portal, blobs: BlobStore, text: str, *, home: Path, access: Access, recorded: Lineage
) -> Source:
    """The source that a run's config names in its final form. blobs: the run's own store.

    Raises NotResumable, with one line, if it is not there any more, or not what it was when the run was
    recorded; StoreError if that cannot be told.
    """
    asked = parse_source(text)
    try:
        if isinstance(asked, FileSource):
            return of_file(portal, asked, home, access)
        return of_run(portal, blobs, asked, access, recorded)
    except (ConfigError, SettingsError, NotFound, Damaged) as error:
        raise gone(text, str(error)) from None


def of_run(
    portal: Portal, blobs: BlobStore, asked: RunSource, access: Access, recorded: Lineage
) -> Source:
    """The checkpoint; of several of that step the one that was recorded, else the newest."""
    where = open_blobs(asked.store, access()) if asked.store else blobs
    paths = RunPaths(asked.run)
    numbers = portal.call(candidates, where, paths, asked.step)
    number = next((it for it in numbers if it[0] == recorded.get("attempt")), numbers[0])
    weights = portal.call(weights_at, where, paths, number)
    if recorded.get("manifest", weights.sha256) != weights.sha256:
        raise Damaged("it is another checkpoint than when this run was recorded")
    portal.call(verify, where, weights, every_byte=False)
    origin = {"run": asked.run, "step": number[1], "attempt": number[0], "manifest": weights.sha256}
    if asked.store:
        origin["store"] = asked.store
    return OfRun(portal, where, weights, str(asked), origin)


def of_file(portal: Portal, asked: FileSource, home: Path, access: Access) -> Source:
    """The file, fetched if it is in a store, and seen to be the one that was named."""
    from crown_exp.devices.weights import open_weights

    remote = access() if asked.is_remote else {}
    path, digest = portal.call(as_file, asked.url, home / "weights", remote, asked.pin)
    if not digest.startswith(asked.pin):
        raise Damaged(f"its sha256 is now {digest[: len(asked.pin)]}: it is not the same file")
    try:
        views = open_weights(path)
    except TaskError as error:
        raise Damaged(str(error).removeprefix(f"weights={path}: ")) from None
    return OfFile(views, asked.url, {"file": asked.url, "sha256": digest})


def gone(text: str, why: str) -> NotResumable:
    """The error of a source that cannot be used."""
    return NotResumable(
        f"checkpoint.init_from={text}: {why}; bring it back, or make a run that begins with other weights"
    )
