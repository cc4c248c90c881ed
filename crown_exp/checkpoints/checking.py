"""Whether checkpoints are what was written: every byte is hashed, in little memory; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

from crown_exp.checkpoints.base import Progress
from crown_exp.checkpoints.listing import no_such
from crown_exp.checkpoints.restore import Number, is_gone, look, read_manifest
from crown_exp.checkpoints.streaming import Meter, stream_packs
from crown_exp.folder.paths import RunPaths, checkpoint_name
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore, NotFound


@dataclass(frozen=True)
class Verdict:
    """What became of the check of a checkpoint. bytes: of its packs; 0 if its manifest cannot be read.

    why: what is wrong, in one line; "" if every byte is what was written. removed: it went while it was read,
    as a run that goes on removes what it does not keep.
    """

    attempt: int
    step: int
    name: str
    bytes: int
    why: str
    removed: bool = False

    @property
    def whole(self) -> bool:
        """Whether every byte is what was written."""
        return not self.why


async def numbers_of(blobs: BlobStore, paths: RunPaths) -> list[Number]:
    """(attempt, step) of all checkpoints that are there, those marked as damaged as well; newest first."""
    return sorted((await look(blobs, paths)).manifests, reverse=True)


async def chosen(blobs: BlobStore, paths: RunPaths, step: int | None) -> Number:
    """The newest checkpoint after that step, or of all, that is not marked as damaged. Raises ConfigError."""
    numbers = (await look(blobs, paths)).usable
    found = next((number for number in numbers if step is None or number[1] == step), None)
    if found is None:
        raise no_such(blobs, paths, step, numbers)
    return found


async def checked(
    blobs: BlobStore, paths: RunPaths, number: Number, progress: Progress | None = None
) -> Verdict:
    """Read every byte of a checkpoint.

    Raises NewerFormat, and StoreError if the store cannot be read, which says nothing of the checkpoint.
    """
    size, why = 0, ""
    try:
        manifest, _ = await read_manifest(blobs, paths, number)
        size = manifest.layout.bytes
        await stream_packs(blobs, paths, manifest.packs, meter=Meter("verifying", size, progress))
    except NotFound:
        why = f"{paths.checkpoint(*number)} is gone"
    except Damaged as error:
        why = str(error)
    removed = bool(why) and await is_gone(blobs, paths.checkpoint(*number))
    return Verdict(*number, checkpoint_name(*number), size, why, removed)
