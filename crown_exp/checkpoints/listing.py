"""The checkpoints of a run as people ask for them: which there are, and one to begin another run with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crown_exp.checkpoints.base import PARALLEL, Listed
from crown_exp.checkpoints.commit import put_manifest
from crown_exp.checkpoints.format import Manifest, Pack, Parent, encode
from crown_exp.checkpoints.restore import Number, is_gone, look, read_listed, read_manifest
from crown_exp.checkpoints.streaming import stream_packs
from crown_exp.errors import ConfigError
from crown_exp.folder.paths import RunPaths, checkpoint_name
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore, NotFound
from crown_exp.storage.parallel import each

BEGINNING = 0
"""The attempt in the name of the checkpoint that a fork begins with."""


async def steps_of(blobs: BlobStore, paths: RunPaths) -> list[Listed]:
    """The checkpoints of a run that are not known to be damaged, newest first: by attempt, then by step.

    Their manifests are read, their packs are not. Raises NewerFormat, StoreError.
    """
    found = []
    for number in (await look(blobs, paths)).usable:
        try:
            manifest, _ = await read_manifest(blobs, paths, number)
        except (Damaged, NotFound):
            continue
        found.append(
            Listed(
                *number,
                manifest.name,
                manifest.created,
                manifest.layout.bytes,
                manifest.metrics,
            )
        )
    return found


async def usable_steps(blobs: BlobStore, paths: RunPaths) -> list[int]:
    """The steps at which a run has a checkpoint that is not known to be damaged, each once; the newest last."""
    newest_first = (await look(blobs, paths)).usable
    return list(dict.fromkeys(step for _, step in newest_first))[::-1]


async def adopt(
    blobs: BlobStore,
    source: RunPaths,
    target: RunPaths,
    step: int | None,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Make a checkpoint of the run `source` what the run `target` begins with; its manifest there.

    step: of the checkpoint; None is the newest that verifies. say: is given a line for each that does not.
    Every byte is verified before it is copied, which the store does on its side. Nothing of `source` changes.
    Doing it again is fine. Raises ConfigError if there is no such checkpoint, Damaged if none of that step
    verifies, NewerFormat, StoreError.
    """
    why, tried = "", set[Number]()
    while True:  # as the run may go on, and remove what is being read
        numbers = (await look(blobs, source)).usable
        wanted = [number for number in numbers if step is None or number[1] == step]
        number = next((number for number in wanted if number not in tried), None)
        if number is None:
            break
        tried.add(number)
        try:
            found = await read_listed(blobs, source, number)
            if found is None:
                continue
            manifest, parent = found
            await stream_packs(blobs, source, manifest.packs)
            return await _copied(blobs, source, target, manifest, parent)
        except (Damaged, NotFound) as error:
            if not await is_gone(blobs, source.checkpoint(*number)):
                why = why or str(error)
                say(f"checkpoint {checkpoint_name(*number)} of {source.run_id} is damaged: {error}")
    if not why:
        raise no_such(blobs, source, step, numbers)
    named = f"{source.run_id}@{max(tried)[1] if step is None else step}"
    raise Damaged(f"{named}: the checkpoint is damaged ({why}); choose another step")


async def _copied(
    blobs: BlobStore, source: RunPaths, target: RunPaths, manifest: Manifest, parent: Parent
) -> Manifest:
    async def copy(pack: Pack) -> None:
        await blobs.copy(source.pack(pack.sha256), target.pack(pack.sha256))

    await each(copy, manifest.packs, at_once=PARALLEL)
    origin = Parent(f"{source.run_id}/{parent.name}", parent.sha256)
    made = replace(manifest, run=target.run_id, attempt=BEGINNING, parent=origin)
    await put_manifest(blobs, target, made, encode(made))
    return made


def no_such(
    blobs: BlobStore, paths: RunPaths, step: int | None, numbers: list[Number]
) -> ConfigError:
    """The error of a step, or a run, without a checkpoint. numbers: of those that there are."""
    steps = ", ".join(map(str, sorted({number[1] for number in numbers})))
    if not steps:
        return ConfigError.of(paths.run_id, f"has no checkpoint in {blobs.url}")
    return ConfigError.of(
        f"{paths.run_id}@{step}", f"no checkpoint of this step; there are {steps}"
    )
