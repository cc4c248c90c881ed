"""What a machine offers, and what a run takes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Compile = bool | Literal["auto"]
"""Whether torch.compile is used; "auto": where the loop is long enough to repay it."""


class Probe(Protocol):
    """What the rules of `choose` ask of a machine; `crown_exp.devices.probe.TorchProbe` asks torch."""

    def cuda(self) -> tuple[int, int] | None:
        """The lowest compute capability of the CUDA devices; None without one."""

    def mps(self) -> int | None:
        """The version of macOS (14, 15, …) if Apple's GPU can be used; None if it cannot."""

    def mixes(self, device: str) -> bool:
        """Whether torch can compute in mixed precision there, scaling of gradients included."""

    def compiles(self, device: str) -> str:
        """Empty if torch.compile can work for that device here, else why it cannot."""

    def name(self, device: str) -> str:
        """What the device is called by its maker; empty if nobody knows."""


@dataclass(frozen=True)
class Choice:
    """The device of a run.

    tf32: whether float32 products may be computed in TF32. compile: "auto" only where it can be done and may
    pay. name: the device's own. reason: one line on how it was chosen; it is printed and recorded.
    """

    device: str
    precision: str
    tf32: bool
    deterministic: bool
    reason: str
    compile: Compile = False
    name: str = ""

    def numerics(self) -> dict[str, Any]:
        """What decides the bits beside the signature, as an attempt records it."""
        return {
            "device": self.device,
            "device_name": self.name,
            "precision": self.precision,
            "tf32": self.tf32,
            "deterministic": self.deterministic,
            "compile": self.compile,
        }
