"""What a machine offers, and what a run takes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Probe(Protocol):
    """What the rules of `choose` ask of a machine; `crown_exp.devices.precision.TorchProbe` asks torch."""

    def cuda(self) -> tuple[int, int] | None:
        """The lowest compute capability of the CUDA devices; None without one."""

    def mps(self) -> int | None:
        """The version of macOS (14, 15, …) if Apple's GPU can be used; None if it cannot."""


@dataclass(frozen=True)
class Choice:
    """The device of a run.

    tf32: whether float32 products may be computed in TF32. reason: one line on how it was chosen; it is
    printed and recorded.
    """

    device: str
    precision: str
    tf32: bool
    deterministic: bool
    reason: str

    def numerics(self) -> dict[str, Any]:
        """What decides the bits beside the signature, as an attempt records it."""
        return {
            "device": self.device,
            "precision": self.precision,
            "tf32": self.tf32,
            "deterministic": self.deterministic,
        }
