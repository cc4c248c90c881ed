"""What a machine offers, and what a run takes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Probe(Protocol):
    """What the rules of `choose` ask of a machine; `crown_exp.devices.torch_probe` asks torch."""

    def cuda(self) -> tuple[int, int] | None:
        """The compute capability of the first CUDA device; None without one."""

    def mps(self) -> bool:
        """Whether Apple's GPU can be used."""


@dataclass(frozen=True)
class Choice:
    """The device of a run. reason says in one line how it was chosen; it is printed and recorded."""

    device: str
    precision: str
    deterministic: bool
    reason: str

    @property
    def tf32(self) -> bool:
        """Whether float32 products on CUDA may use TF32."""
        return self.device == "cuda" and not self.deterministic and self.precision != "fp32"

    def numerics(self) -> dict[str, Any]:
        """What decides the bits beside the signature, as an attempt records it."""
        return {
            "device": self.device,
            "precision": self.precision,
            "tf32": self.tf32,
            "deterministic": self.deterministic,
        }
