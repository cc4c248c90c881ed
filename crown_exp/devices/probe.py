"""What torch and the system know of this machine. Cheap: no compiler of torch's is imported to ask."""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import torch

VOLTA = (7, 0)
"""The first compute capability that Triton writes code for."""

NEEDS = {(3, 12): (2, 4), (3, 13): (2, 6), (3, 14): (2, 10), (3, 15): (99, 0)}
"""The first torch whose compiler reads the bytecode of a Python."""


class TorchProbe:
    """Asks torch what this machine has.

    environment: of the process; CXX names the compiler that torch.compile calls.
    """

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.cxx = environment.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")

    def cuda(self) -> tuple[int, int] | None:
        """The lowest compute capability of the CUDA devices; None without one."""
        if not torch.cuda.is_available():
            return None
        return min(map(torch.cuda.get_device_capability, range(torch.cuda.device_count())))

    def mps(self) -> int | None:
        """The version of macOS if Apple's GPU can be used; None if it cannot."""
        if not torch.backends.mps.is_available():
            return None
        return int(platform.mac_ver()[0].partition(".")[0] or 1)

    def mixes(self, device: str) -> bool:
        """Whether torch can compute in mixed precision there; for MPS, its scaler was the last to come."""
        if device != "mps":
            return True
        return bool(
            torch._C._dispatch_has_kernel_for_dispatch_key("aten::_amp_update_scale_", "MPS")
        )

    def compiles(self, device: str) -> str:
        """Empty if torch.compile can work for that device here, else why it cannot."""
        if device == "mps":
            return "torch.compile does not know mps well enough yet"
        if device == "cuda":
            return unread_python() or self.triton_lacks() or missing_compiler(self.cxx)
        return unread_python() or missing_compiler(self.cxx)

    def triton_lacks(self) -> str:
        """Why Triton, which writes the kernels for CUDA, cannot; empty if it can."""
        if find_spec("triton") is None:
            return "Triton is not installed"
        if (self.cuda() or VOLTA) < VOLTA:
            return "Triton needs a GPU of compute capability 7.0 or more"
        return ""

    def name(self, device: str) -> str:
        """What the device is called by its maker."""
        if device == "cuda":
            return torch.cuda.get_device_name()
        if device == "mps":
            named: Callable[[], str] | None = getattr(torch.backends.mps, "get_name", None)
            return (named and named()) or "Apple GPU"
        return processor()


def unread_python() -> str:
    """Why this torch cannot compile what this Python runs; empty if it can."""
    version = torch.__version__.split(".")
    here, has = sys.version_info[:2], (int(version[0]), int(version[1]))
    wanted = max((torch for python, torch in NEEDS.items() if python <= here), default=(2, 0))
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if has >= wanted and not (free_threaded and sys.version_info < (3, 13, 3)):
        return ""
    return f"torch {torch.__version__} cannot compile on Python {platform.python_version()}"


def missing_compiler(command: str) -> str:
    """The first of what torch.compile calls or includes for C++ that is not here; empty if all is."""
    if shutil.which(command) is None:
        return f"no C++ compiler ({command}) is installed"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's header files (Python.h) are not installed"
    return ""


def processor() -> str:
    """The model of the CPU; its architecture where the system does not tell."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
                if not line.strip():
                    break  # the end of the first core
    except OSError:
        pass
    # Linux would start a process to tell no more than the machine.
    return (sys.platform != "linux" and platform.processor()) or platform.machine()
