"""A checkpoint as one safetensors file, which stock safetensors loads.

It is written while it is read, in little memory: each verified pack goes to its places in the file, which gets
its name once every byte is there. Tied tensors are written under each of their names; views with a stride are
closed up. What safetensors has no dtype for keeps its bits: complex numbers as pairs of real ones
(`torch.view_as_complex`), rare kinds of float8 as uint8. The rest of the state, which is no tensor, is in the
metadata: `crown_exp` says of which run and step it is, `tree` holds the skeleton, with names for tensors.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from crown_exp.checkpoints.base import Progress
from crown_exp.checkpoints.format import Manifest, Pack
from crown_exp.checkpoints.layout import SIZES, Placed
from crown_exp.checkpoints.restore import Number, read_manifest
from crown_exp.checkpoints.skeleton import put_together
from crown_exp.checkpoints.streaming import Meter, stream_packs
from crown_exp.errors import ConfigError, StoreError
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage.base import BlobStore
from crown_exp.storage.parallel import in_thread

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32",
    "float64": "F64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
"""What safetensors calls them, since long ago: one that it does not know costs a reader the whole file."""

PARTS_OF_COMPLEX = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
RESERVED = "__metadata__"
LENGTH_BYTES = 8
LONGEST_TREE = 16 * 2**20
"""A longer skeleton is left out: safetensors reads no header of more than 100 MB."""


@dataclass(frozen=True)
class Exported:
    """A file that was written. bytes: of it. changed: a line for each tensor that is there as another dtype."""

    path: Path
    tensors: int
    bytes: int
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A tensor in the file: what it is in the checkpoint, and where in the file it begins."""

    name: str
    item: Placed
    begin: int = 0

    @property
    def end(self) -> int:
        """Where it ends in the file, after the header."""
        return self.begin + self.item.bytes

    @property
    def stored(self) -> tuple[str, tuple[int, ...]]:
        """The dtype, as torch names it, and the shape that it is written with."""
        dtype, shape = self.item.dtype, self.item.shape
        if dtype in PARTS_OF_COMPLEX:
            return PARTS_OF_COMPLEX[dtype], (*shape, 2)
        return (dtype if dtype in DTYPES else "uint8"), shape


async def exported(
    blobs: BlobStore,
    paths: RunPaths,
    number: Number,
    target: Path,
    *,
    only: Collection[str] = (),
    progress: Progress | None = None,
) -> Exported:
    """Write the tensors of a checkpoint to `target`, which is replaced if it is there.

    only: names of tensors, or their beginnings at a dot (`net`, `net.head`); none is all. Raises ConfigError if
    there are no such tensors, Damaged if a byte is not what was written, NotFound, NewerFormat, StoreError,
    also if the file cannot be written. Then there is no new file.
    """
    manifest, parent = await read_manifest(blobs, paths, number)
    names = named(manifest)
    entries = placed(wanted(names, only, paths, manifest))
    head = header(entries, manifest, parent.sha256, names)
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        file = await in_thread(create, temporary, head)
        try:
            whole = sorted(filter(has_bytes, entries), key=lambda entry: entry.item.offset)
            await fill(blobs, paths, manifest, Sheet(file, len(head), whole), progress)
            await in_thread(os.fsync, file)
        finally:
            os.close(file)
        await in_thread(close_up, temporary, len(head), entries)
        temporary.replace(target)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(f"cannot write {target}: {reason}; nothing is left of it") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    size = len(head) + (entries[-1].end if entries else 0)
    return Exported(target, len(entries), size, tuple(changes(entries)))


# --- names ------------------------------------------------------------------------------------------------


def named(manifest: Manifest) -> dict[str, Placed]:
    """All tensors of a state by name: `net.conv1.weight`, `opt.state.0.exp_avg`, `random.torch`.

    What was tracked has its own name; all else begins with the part of the state that it is in. Raises Damaged.
    """
    try:
        state = put_together(manifest.tree, manifest.tensors)
    except (ValueError, LookupError, TypeError) as error:
        raise Damaged(f"checkpoint {manifest.name} has no tree that can be read: {error}") from None
    found: dict[str, Placed] = {}
    for path, item in leaves(state, ()):
        inner = path[1:] if len(path) > 1 and path[0] == "tracked" else path
        name = ".".join(inner).encode(errors="backslashreplace").decode() or "state"
        found[free(name, found)] = item
    return found


def leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Placed]]:
    """The tensors below a node, with their keys."""
    if isinstance(node, Placed):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from leaves(value, (*path, str(index)))


def free(name: str, taken: Collection[str]) -> str:
    """The name, or where another tensor has it, one with a number."""
    found, number = name, 2
    while found in taken or found == RESERVED:
        found, number = f"{name}#{number}", number + 1
    return found


def wanted(
    names: Mapping[str, Placed], only: Collection[str], paths: RunPaths, manifest: Manifest
) -> dict[str, Placed]:
    """Those that were asked for. Raises ConfigError for what is not there."""
    of = f"{paths.run_id}@{manifest.step}"
    for one in only:
        if not any(begins(name, one) for name in names):
            heads = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ConfigError.of(one, f"no tensor of {of} is named so; there are {heads or 'none'}")
    if not names:
        raise ConfigError.of(of, "this checkpoint holds no tensors, so there is nothing to export")
    return {
        name: item
        for name, item in names.items()
        if not only or any(begins(name, one) for one in only)
    }


def has_bytes(entry: Entry) -> bool:
    """Whether a tensor has an element."""
    return entry.item.bytes > 0


def begins(name: str, one: str) -> bool:
    """Whether a name is that, or lies below it."""
    return name == one or name.startswith(f"{one}.")


# --- the file ---------------------------------------------------------------------------------------------


def placed(items: Mapping[str, Placed]) -> list[Entry]:
    """Where they lie in the file: wide numbers first, so that each begins at a multiple of its width."""
    ordered = sorted(items, key=lambda name: (-SIZES[items[name].dtype], name))
    ends = accumulate(items[name].bytes for name in ordered)
    return [
        Entry(name, items[name], end - items[name].bytes)
        for name, end in zip(ordered, ends, strict=True)
    ]


def header(
    entries: Sequence[Entry], manifest: Manifest, sha256: str, names: Mapping[str, Placed]
) -> bytes:
    """What the file begins with: the length of the header, the header, padded to a multiple of eight."""
    of = {
        "run": manifest.run,
        "step": manifest.step,
        "checkpoint": manifest.name,
        "manifest": sha256,
        "dtypes": {
            entry.name: entry.item.dtype for entry in entries if entry.stored[0] != entry.item.dtype
        },
    }
    first: dict[int, str] = {}
    numbers = {id(item): number for number, item in enumerate(manifest.tensors)}
    for name, item in names.items():
        first.setdefault(numbers[id(item)], name)
    metadata = {"format": "pt", "crown_exp": json.dumps(of)}
    if len(tree := json.dumps(with_names(manifest.tree, first))) <= LONGEST_TREE:
        metadata["tree"] = tree
    fields: dict[str, Any] = {RESERVED: metadata}
    for entry in entries:
        dtype, shape = entry.stored
        offsets = [entry.begin, entry.end]
        fields[entry.name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": offsets}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def with_names(node: Any, names: Mapping[int, str]) -> Any:
    """A skeleton whose tensors are told by name."""
    if isinstance(node, list):
        return [with_names(value, names) for value in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"$tensor"}:
        return {"$tensor": names[node["$tensor"]]}
    return {key: with_names(value, names) for key, value in node.items()}


def changes(entries: Sequence[Entry]) -> Iterator[str]:
    """A line for each tensor that safetensors has no dtype for."""
    for entry in entries:
        dtype, shape = entry.stored
        if dtype != entry.item.dtype:
            yield f"{entry.name} is {entry.item.dtype}; written as {dtype} of shape {shape}"


def create(path: Path, head: bytes) -> int:
    """A new file that begins so; its descriptor."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        write_at(file, memoryview(head), 0)
    except OSError:
        os.close(file)
        raise
    return file


@dataclass(frozen=True)
class Sheet:
    """An open file into which pieces of a state's stream are put where they belong. head: its header's size.

    entries: that have bytes, in the order of the stream.
    """

    file: int
    head: int
    entries: Sequence[Entry]

    def within(self, start: int, end: int) -> Iterator[Entry]:
        """The tensors of which something lies between two places of the stream."""
        first = bisect_right(self.entries, start, key=lambda it: it.item.offset + it.item.bytes)
        for entry in islice(self.entries, first, None):
            if entry.item.offset >= end:
                return
            yield entry

    def put(self, start: int, data: memoryview) -> None:
        """Write what the stream holds from `start` on. Raises OSError."""
        end = start + len(data)
        for entry in self.within(start, end):
            first = max(entry.item.offset, start)
            last = min(entry.item.offset + entry.item.bytes, end)
            at = self.head + entry.begin + first - entry.item.offset
            write_at(self.file, data[first - start : last - start], at)


async def fill(
    blobs: BlobStore,
    paths: RunPaths,
    manifest: Manifest,
    sheet: Sheet,
    progress: Progress | None,
) -> None:
    """Read the packs that hold something of it into the file. Raises as `exported`, and OSError."""
    ends = accumulate(pack.size for pack in manifest.packs)
    spans = [(end - pack.size, pack) for end, pack in zip(ends, manifest.packs, strict=True)]
    spans = [
        (start, pack)
        for start, pack in spans
        if next(sheet.within(start, start + pack.size), None) is not None
    ]
    packs: list[Pack] = [pack for _, pack in spans]
    meter = Meter("exporting", sum(pack.size for pack in packs), progress)

    def take(number: int, start: int, data: memoryview) -> None:
        sheet.put(spans[number][0] + start, data)

    await stream_packs(blobs, paths, packs, take, meter)


def write_at(file: int, data: memoryview, at: int) -> None:
    """Write all of it."""
    while data:
        count = os.pwrite(file, data, at)
        data, at = data[count:], at + count


def close_up(path: Path, head: int, entries: Sequence[Entry]) -> None:
    """Put the elements of tensors with strides of their own in order; one such tensor is in memory at once."""
    strided = [entry for entry in entries if entry.item.stride is not None and has_bytes(entry)]
    if not strided:
        return
    import numpy as np

    for entry in strided:
        item, width = entry.item, SIZES[entry.item.dtype]
        lies = np.memmap(path, mode="r+", offset=head + entry.begin, shape=(item.bytes,))
        strides = [step * width for step in item.stride or ()]
        seen: Any = np.ndarray(item.shape, np.dtype((np.void, width)), lies, strides=strides)
        lies[:] = np.frombuffer(seen.tobytes(), np.uint8)
        lies.flush()
