"""Several sources of batches in lock step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import chain, combinations, count
from typing import Any

from crown_exp.data.batches import Batches
from crown_exp.data.stream import Stream
from crown_exp.errors import TaskError

Source = Batches | Stream


class Zipped:
    """Turns that are tuples of one batch of each source: `for (images, labels), text in a.zip(b)`.

    Training: an epoch is one of the first source, and so are `epochs`; the others go on over epochs of
    their own, as often as it takes. Otherwise: one pass, in which all must make equally many turns, as
    `zip(strict=True)` has it; so none is evaluated in part without a word.

    `state_dict` holds each source's state by its name; of equal names the second is `name#2`.
    Raises TaskError for sources that are not all training or none, that are the same one twice (or two
    streams of one dataset, which would take each other's place), that differ in length, and for
    `epochs` of any but the first.
    """

    def __init__(self, *sources: Source) -> None:
        for source in sources:
            if not isinstance(source, Source):
                raise TaskError(
                    f"zip: expected what run.batches makes, got {type(source).__name__}; name all in "
                    "one call: a.zip(b, c)"
                )
        self.sources = sources
        self.name = "+".join(source.name for source in sources)
        self.train, self.epochs = sources[0].train, sources[0].epochs
        self._keys = _unique([source.name for source in sources])
        self._refuse_misfits()

    def __len__(self) -> int:
        """The turns of an epoch. Raises TypeError if the first source is a stream, which has no length."""
        lengths = self._lengths()
        if self.train or not lengths:
            lengths = [len(self.sources[0])]  # type: ignore[arg-type]
        return lengths[0]

    def __iter__(self) -> Iterator[Any]:
        """Training: each goes on where it was. Otherwise: one pass from the start."""
        return self._run(iter(self.sources[0]))

    def epoch(self) -> Iterator[Any]:
        """What is left of the present epoch of the first source, a stream."""
        assert isinstance(self.sources[0], Stream)
        return self._run(self.sources[0].epoch())

    def state_dict(self) -> dict[str, Any]:
        """Each source's state by its name."""
        return {
            key: source.state_dict() for key, source in zip(self._keys, self.sources, strict=True)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next loop go on there. Raises TaskError for a state of other sources."""
        if set(state) != set(self._keys):
            raise TaskError(
                f"{self.name}: the state is of {', '.join(state)}, these are {', '.join(self._keys)}"
            )
        for key, source in zip(self._keys, self.sources, strict=True):
            source.load_state_dict(state[key])

    def _run(self, first: Iterator[Any]) -> Iterator[Any]:
        loops = [first, *(iter(source) for source in self.sources[1:])]
        with ExitStack() as stack:
            for loop in loops:
                stack.enter_context(closing(loop))  # type: ignore[type-var]  # generators all
            turns = 0
            for batch in first:
                yield (
                    batch,
                    *(self._next(at, loop, turns) for at, loop in enumerate(loops[1:], 1)),
                )
                turns += 1
            if not self.train and any(next(loop, self) is not self for loop in loops[1:]):
                raise self._ended(0, turns)

    def _next(self, at: int, loop: Iterator[Any], turns: int) -> Any:
        batch = next(loop, self)
        if batch is self:
            raise self._ended(at, turns)
        return batch

    def _ended(self, at: int, turns: int) -> TaskError:
        others = ", ".join(key for other, key in enumerate(self._keys) if other != at)
        return TaskError(
            f"{self.name}: {self._keys[at]} ended after {turns} batches, before {others}; what is zipped "
            "for evaluation must be equally long"
        )

    def _lengths(self) -> list[int]:
        return [len(source) for source in self.sources if isinstance(source, Batches)]

    def _refuse_misfits(self) -> None:
        if len({source.train for source in self.sources}) > 1:
            kinds = ", ".join(
                f"{key} train={source.train}"
                for key, source in zip(self._keys, self.sources, strict=True)
            )
            raise TaskError(f"zip: all must be for training, or none: {kinds}")
        for one, other in combinations(self.sources, 2):
            streams = isinstance(one, Stream) and isinstance(other, Stream)
            if one is other or (streams and one.dataset is other.dataset):
                raise TaskError(
                    f"zip: {one.name} is in it twice, and each would move the other; make a dataset and "
                    "batches for each"
                )
        for key, source in zip(self._keys[1:], self.sources[1:], strict=True):
            if source.epochs is not None:
                raise TaskError(
                    f"zip: {key} has epochs={source.epochs}; only the first can have epochs, the others "
                    "go on for as long as it does"
                )
        if not self.train and len(set(self._lengths())) > 1:
            known = ", ".join(
                f"{key} makes {len(source)} batches"
                for key, source in zip(self._keys, self.sources, strict=True)
                if isinstance(source, Batches)
            )
            raise TaskError(f"zip: what is zipped for evaluation must be equally long: {known}")


def _unique(names: list[str]) -> list[str]:
    """The names, the second of two equal ones as `name#2`."""
    found: list[str] = []
    for name in names:
        others = (f"{name}#{number}" for number in count(2))
        found.append(next(free for free in chain([name], others) if free not in found))
    return found
