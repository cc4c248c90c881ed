"""`run` without a framework: what a researcher types by hand in a bare loop, under the same names.

The shipped experiments run on it unchanged, so that the two loops do the same work and what differs is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class PlainRun:
    """One process, the CPU, float32; no record of anything but the files of `artifact`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.step = folder, seed, 0
        self.id = self.name = "plain"
        self.resumed, self.attempt = False, 1

    @property
    def device(self) -> Any:
        """The CPU."""
        import torch

        return torch.device("cpu")

    def build(self, config: Any, **arguments: Any) -> Any:
        """The object that a group names."""
        from crown_exp.runner.build import build

        return build(config.values, **arguments)

    def batches(
        self,
        dataset: Any,
        *,
        batch_size: int,
        train: bool = True,
        split: str | None = None,
        **_: Any,
    ) -> Any:
        """A DataLoader, gone through again and again in training."""
        import torch
        from torch.utils.data import DataLoader

        is_group = hasattr(dataset, "values")
        data = self.build(dataset, **({"split": split} if split else {})) if is_group else dataset
        generator = torch.Generator().manual_seed(self.seed)
        loader = DataLoader(data, batch_size, shuffle=train, drop_last=train, generator=generator)
        return (batch for _ in count() for batch in loader) if train else loader

    def track(self, **objects: Any) -> None:
        """Nothing survives."""

    def state(self, **values: Any) -> Any:
        """Values under names."""
        return SimpleNamespace(**values)

    def steps(self, source: Any, total: int | None = None, *, name: str = "main") -> Iterator[Any]:
        """A `for` loop that counts."""
        items = range(source) if isinstance(source, int) else source
        for item in islice(items, total):
            self.step += 1
            yield item

    def every(self, interval: str) -> bool:
        """Of steps."""
        return self.step > 1 and (self.step - 1) % int(interval.split()[0]) == 0

    def split(self, batch: Any) -> Iterator[Any]:
        """The batch, whole."""
        yield batch

    def backward(self, loss: Any) -> None:
        """Gradients."""
        loss.backward()

    def update(self, optimizer: Any, clip: float | None = None) -> Any:
        """Clip, step, zero."""
        norm = None
        if clip is not None:
            import torch

            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def autocast(self) -> Any:
        """Float32 as it is."""
        from contextlib import nullcontext

        return nullcontext()

    def log(self, **values: Any) -> None:
        """Nobody listens; but a value is read, as every log does."""
        for value in values.values():
            float(value)

    def artifact(self, name: str, value: Any) -> None:
        """A file."""
        from crown_exp.runner.contents import contents

        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents(name, value, print))

    def kept(self, name: str) -> Path | None:
        """The file."""
        path = self.folder / name
        return path if path.exists() else None
