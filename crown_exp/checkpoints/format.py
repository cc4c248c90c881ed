"""The manifest of a checkpoint, and its bytes. Pure.

One line of JSON whose last field is the sha256 of all bytes before it: a byte that changed is noticed. Every
later format ends in the same way, and has `format` as its first field, so that it is known as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar

from crown_exp.checkpoints.layout import SIZES, Layout, Placed
from crown_exp.clock import isoformat, parse_iso
from crown_exp.folder.paths import checkpoint_name
from crown_exp.folder.records import Damaged, NewerFormat

_TAIL = ',"sha256":"{}"}}\n'
_TAIL_LENGTH = len(_TAIL.format("0" * 64))


@dataclass(frozen=True)
class Pack:
    """A blob of tensors' bytes, by the hash of what it holds."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Parent:
    """The checkpoint that came before: its name, and the sha256 of its manifest's bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All of a checkpoint but the bytes of its tensors. tree: the skeleton of the state."""

    format: ClassVar[int] = 1

    run: str
    attempt: int
    step: int
    created: datetime
    parent: Parent | None
    metrics: Mapping[str, float]
    packs: tuple[Pack, ...]
    tensors: tuple[Placed, ...]
    tree: Any

    @property
    def name(self) -> str:
        """What the checkpoint is called: `000001-000000000060`."""
        return checkpoint_name(self.attempt, self.step)

    @property
    def layout(self) -> Layout:
        """Where its tensors lie."""
        return Layout(self.tensors, tuple(pack.size for pack in self.packs))

    def same_state(self, other: Manifest) -> bool:
        """Whether both hold the same state of the same run, wherever they came from."""
        alike = replace(other, created=self.created, parent=self.parent, metrics=self.metrics)
        return encode(self) == encode(alike)


def encode(manifest: Manifest) -> bytes:
    """A manifest's bytes."""
    parent = manifest.parent
    fields = {
        "format": manifest.format,
        "run": manifest.run,
        "attempt": manifest.attempt,
        "step": manifest.step,
        "created": isoformat(manifest.created),
        "parent": parent and {"name": parent.name, "sha256": parent.sha256},
        "metrics": dict(manifest.metrics),
        "packs": [{"sha256": pack.sha256, "size": pack.size} for pack in manifest.packs],
        "tensors": [_of_tensor(item) for item in manifest.tensors],
        "tree": manifest.tree,
    }
    head = json.dumps(fields, separators=(",", ":"))[:-1].encode()
    return head + _TAIL.format(sha256(head).hexdigest()).encode()


def decode(data: bytes, run: str, attempt: int, step: int, source: str) -> Manifest:
    """The inverse of `encode`. run, attempt, step: what its path says it is. source: for messages.

    Raises Damaged if a byte is not what was written, or it is another's manifest; NewerFormat.
    """
    head, tail = data[:-_TAIL_LENGTH], data[-_TAIL_LENGTH:]
    if tail != _TAIL.format(sha256(head).hexdigest()).encode():
        raise Damaged(f"{source}: damaged, its bytes are not those that were written")
    try:
        tree = json.loads(head + b"}")
        if type(tree["format"]) is int and tree["format"] > Manifest.format:
            raise NewerFormat(
                f"{source}: has format {tree['format']}, this crown_exp reads up to {Manifest.format}; "
                "upgrade crown_exp"
            )
        manifest = _manifest(tree)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{source}: damaged, no manifest ({error!r})") from None
    said = (manifest.run, manifest.attempt, manifest.step)
    if said != (run, attempt, step):
        raise Damaged(f"{source}: damaged, it is the manifest of {said[0]} {manifest.name}")
    return manifest


def _manifest(tree: dict[str, Any]) -> Manifest:
    parent = tree["parent"]
    manifest = Manifest(
        run=tree["run"],
        attempt=tree["attempt"],
        step=tree["step"],
        created=parse_iso(tree["created"]),
        parent=parent and Parent(parent["name"], parent["sha256"]),
        metrics=tree["metrics"],
        packs=tuple(Pack(pack["sha256"], pack["size"]) for pack in tree["packs"]),
        tensors=tuple(_placed(item) for item in tree["tensors"]),
        tree=tree["tree"],
    )
    size = sum(pack.size for pack in manifest.packs)
    for item in manifest.tensors:
        if item.dtype not in SIZES or not 0 <= item.offset <= item.offset + item.bytes <= size:
            raise ValueError(f"{item.path} does not lie in the packs")
    return manifest


def _of_tensor(item: Placed) -> dict[str, Any]:
    tree = {"path": item.path, "dtype": item.dtype, "shape": item.shape, "offset": item.offset}
    return tree if item.stride is None else {**tree, "stride": item.stride}


def _placed(tree: dict[str, Any]) -> Placed:
    stride = tree.get("stride")
    return Placed(
        tree["path"],
        tree["dtype"],
        tuple(tree["shape"]),
        tree["offset"],
        None if stride is None else tuple(stride),
    )
