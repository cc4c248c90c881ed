"""What memory a process took at most, and giving back what it does not use."""

from __future__ import annotations

import gc
import sys
from pathlib import Path


def peak_memory(device: str) -> dict[str, int]:
    """Bytes: `host`, the most this process had in memory; `device`, if that has memory of its own.

    For CUDA what its tensors took at most; for MPS, which keeps no such count, what its driver holds now.
    """
    peak = {"host": host_peak()}
    torch = sys.modules.get("torch")
    if torch is not None and device == "cuda" and torch.cuda.is_initialized():
        peak["device"] = torch.cuda.max_memory_allocated()
    elif torch is not None and device == "mps":
        peak["device"] = torch.mps.driver_allocated_memory()
    return peak


def host_peak() -> int:
    """The peak of this process's resident memory, in bytes; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        # What getrusage tells began with the process that started this one.
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")
        )
    except (OSError, StopIteration):
        return peak_by_usage()


def peak_by_usage() -> int:
    """The same as getrusage tells it: in KiB, but for macOS, which counts bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory() -> None:
    """Give back what no object holds any more: to be called before trying again after an out-of-memory."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
