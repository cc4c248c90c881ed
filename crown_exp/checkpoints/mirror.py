"""The newest checkpoint of a run on this machine's own disk: so that a restart here need not fetch it.

Nothing depends on it. It is written without fsync, and every pack is hashed when it is read: one that is not
what it should be counts as absent. What goes wrong with the disk costs one line, and the mirror.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from crown_exp.checkpoints.format import Pack
from crown_exp.storage.parallel import in_thread

SPARE = 2**30
"""Bytes that stay free on the disk, which others need, too."""

FORGOTTEN_S = 7 * 24 * 3600.0
"""The mirror of a run that nobody came back to for so long is removed."""

PIECE = 8 * 2**20
TEMPORARY = ".temp-"


class Mirror:
    """The packs of one run in `<folder>/<run>`. say: shows a line, at most one; called in a worker thread."""

    def __init__(self, folder: Path, run: str, say: Callable[[str], None]) -> None:
        self.folder, self.own, self.say = folder, folder / run, say
        self.works = True

    async def read(self, pack: Pack, data: memoryview) -> bool:
        """Fill `data` with a pack; whether it was there and every byte is what was written."""
        return await in_thread(self._read, pack, data)

    async def keep(self, packs: Sequence[Pack], parts: Sequence[memoryview]) -> None:
        """Have these packs, whose bytes are `parts`, and no others."""
        if self.works:
            await in_thread(self._keep, packs, parts)

    def remove(self) -> None:
        """The run has ended for good: nobody will read it again."""
        shutil.rmtree(self.own, ignore_errors=True)

    def _read(self, pack: Pack, data: memoryview) -> bool:
        found = sha256()
        try:
            with (self.own / pack.sha256).open("rb", buffering=0) as file:
                for start in range(0, pack.size, PIECE):
                    piece = data[start : start + PIECE]
                    if file.readinto(piece) != len(piece):
                        return False
                    found.update(piece)
        except OSError:
            return False
        return found.hexdigest() == pack.sha256

    def _keep(self, packs: Sequence[Pack], parts: Sequence[memoryview]) -> None:
        try:
            self._make(packs, parts)
        except OSError as error:
            self._give_up((error.strerror or str(error)).lower())

    def _make(self, packs: Sequence[Pack], parts: Sequence[memoryview]) -> None:
        self.own.mkdir(parents=True, exist_ok=True)
        remove_forgotten(self.folder, self.own)
        names = {pack.sha256 for pack in packs}
        there = {item.name for item in self.own.iterdir()}
        for name in there - names:  # first: there is never room for two taken
            with suppress(FileNotFoundError):  # another attempt of the run has been faster
                (self.own / name).unlink()
        missing = {pack.sha256: part for pack, part in zip(packs, parts, strict=True)}
        missing = {name: part for name, part in missing.items() if name not in there}
        if sum(map(len, missing.values())) > shutil.disk_usage(self.own).free - SPARE:
            self._give_up("less than 1 GB would be left free")
            return
        for name, part in missing.items():
            write(self.own / name, part)

    def _give_up(self, why: str) -> None:
        self.works = False
        self.remove()
        self.say(
            f"no copy of the newest checkpoint is kept in {self.folder}: {why}; the run goes on without one "
            "(checkpoint.mirror=false asks for none)"
        )


def write(target: Path, data: memoryview) -> None:
    """A file that is whole or absent for every reader, unless the machine crashes."""
    temporary = target.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
    try:
        with temporary.open("xb", buffering=0) as file:
            while data:
                data = data[file.write(data) :]
        temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_forgotten(folder: Path, own: Path) -> None:
    """Remove what other runs left a week ago and more."""
    os.utime(own)
    for other in folder.iterdir():
        with suppress(OSError):
            if other != own and time.time() - other.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(other, ignore_errors=True)
