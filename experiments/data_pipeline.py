"""A data pipeline: files of text, in shards → a vocabulary of byte pairs → token ids, one file for each shard.

What it stores follows from the texts alone, and what is stored already is not made again: stop it anywhere, go
on anywhere. A text is read as latin-1, where a character is a byte, so that any file will do.
"""

from __future__ import annotations

import json
import re
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Interval

from crown_exp import Run
from crown_exp.errors import TaskError

Pair = tuple[str, str]

WORD = re.compile(r" ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+")
"""Letters or signs, with the space before them, or white space: what GPT-2 cuts a text into."""

END = chr(256)
"""The piece that follows each text; no byte."""


def tokenize(
    run: Run,
    *,
    folder: str | None = None,
    pattern: str = "*.py",
    shards: Annotated[int, Gt(0)] = 16,
    vocabulary: Annotated[int, Interval(ge=257, le=65_536)] = 1024,
) -> dict[str, Any]:
    """Count the words of each shard; learn from all which bytes go together; encode each shard; check it.

    folder: where the files are that `pattern` fits; null: Python's own standard library.
    vocabulary: pieces, counting all bytes and the end of a text; fewer if nothing more goes together.
    """
    files = find(folder, pattern)
    parts = {f"{number:03}": files[number::shards] for number in range(min(shards, len(files)))}
    for name in run.steps(list(parts), name="count"):
        if not run.kept(f"counts/{name}.json"):
            words = Counter(word for text in read(parts[name]) for word in WORD.findall(text))
            run.artifact(f"counts/{name}.json", words)
    if not run.kept("vocabulary.json"):
        counts = Counter[str]()
        for path in kept(run, "counts/{}.json", parts).values():
            counts.update(json.loads(path.read_text(encoding="utf-8")))
        merges = learn(counts, vocabulary - 257)
        run.artifact("vocabulary.json", {"pieces": Codec(merges).pieces, "merges": merges})
    [rules] = kept(run, "{}.json", ["vocabulary"]).values()
    codec = Codec([(a, b) for a, b in json.loads(rules.read_text(encoding="utf-8"))["merges"]])
    for name in run.steps(list(parts), name="encode"):
        if not run.kept(f"tokens/{name}.npy"):
            ids = np.array(codec.encode(read(parts[name])), dtype=np.uint16)
            run.artifact(f"tokens/{name}.npy", ids)
            run.log(tokens=len(ids))
    encoded = kept(run, "tokens/{}.npy", parts)
    index = {name: checked(path, parts[name], codec) for name, path in encoded.items()}
    run.artifact("index.json", index)
    tokens, size = (sum(entry[key] for entry in index.values()) for key in ("tokens", "bytes"))
    return {
        "shards": len(index),
        "vocabulary": len(codec.pieces),
        "tokens": tokens,
        "bytes_per_token": size / tokens,
        "digest": digest(rules, *encoded.values()),
    }


def find(folder: str | None, pattern: str) -> list[Path]:
    """The files of a folder that a pattern fits, by name. Raises TaskError if there are none."""
    place = Path(folder or sysconfig.get_path("stdlib"))
    files = sorted(path for path in place.glob(pattern) if path.is_file())
    if not files:
        raise TaskError(f"task.folder={place} has no file that task.pattern={pattern} fits")
    return files


def read(files: Iterable[Path]) -> list[str]:
    """Their texts: a character for each byte."""
    return [path.read_bytes().decode("latin-1") for path in files]


def kept(run: Run, name: str, parts: Iterable[str]) -> dict[str, Path]:
    """What is stored of each part; a part that a limit of the run has left out is not among them."""
    found = {part: run.kept(name.format(part)) for part in parts}
    return {part: path for part, path in found.items() if path}


def checked(path: Path, files: Sequence[Path], codec: Codec) -> dict[str, Any]:
    """What the index says of a shard. Raises TaskError if its tokens do not decode to its texts."""
    tokens, texts = np.load(path).tolist(), read(files)
    if codec.decode(tokens) != texts:
        raise TaskError(f"{path} does not decode to its texts; was one changed since it was made?")
    return {
        "texts": [file.name for file in files],
        "bytes": sum(map(len, texts)),
        "tokens": len(tokens),
        "sha256": digest(path),
    }


def digest(*files: Path) -> str:
    """SHA-256 over the contents of files."""
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def learn(counts: Mapping[str, int], merges: int) -> list[Pair]:
    """Byte pair encoding (Sennrich et al. 2016): the commonest neighbours become one piece, again and again.

    counts: how often each word occurs. Among equally common pairs the first by name is taken.
    """
    words = {word: list(word) for word in counts}
    frequency, homes = Counter[Pair](), defaultdict[Pair, set[str]](set)

    def count(word: str, sign: int) -> None:
        for pair in pairwise(words[word]):
            frequency[pair] += sign * counts[word]
            homes[pair].add(word)

    for word in words:
        count(word, +1)
    learned: list[Pair] = []
    while len(learned) < merges and (most := max(frequency.values(), default=0)) > 1:
        best = min(pair for pair, times in frequency.items() if times == most)
        for word in homes.pop(best):
            count(word, -1)
            words[word] = joined(words[word], best)
            count(word, +1)
        learned.append(best)
    return learned


def joined(pieces: Iterable[str], pair: Pair) -> list[str]:
    """The pieces of a word with every such pair, from the left, made one."""
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


class Codec:
    """From texts to token ids and back. An id is a place in `pieces`: 256 bytes, END, the merges in order."""

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.pieces = [*map(chr, range(256)), END, *map("".join, merges)]
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.ids_of = cache(self.encode_word)

    def encode(self, texts: Iterable[str]) -> list[int]:
        """The ids of texts, with END after each."""
        words = (word for text in texts for word in [*WORD.findall(text), END])
        return [number for word in words for number in self.ids_of(word)]

    def encode_word(self, word: str) -> list[int]:
        """The ids of a word: pairs become one in the order in which they were learned."""
        pieces = list(word)
        while len(pieces) > 1:
            first = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, inf))
            if first not in self.ranks:
                break
            pieces = joined(pieces, first)
        return [self.ids[piece] for piece in pieces]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The texts again."""
        return "".join(self.pieces[number] for number in ids).split(END)[:-1]
