"""The peak of memory, and giving memory back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crown_exp.devices import memory
from crown_exp.devices.memory import free_memory, peak_memory

MB = 2**20


def test_the_peak_grows_with_what_is_used_and_stays() -> None:
    before = peak_memory("cpu")["host"]
    block = bytearray(b"x") * max(300 * MB, before)
    after = peak_memory("cpu")
    assert list(after) == ["host"]
    assert after["host"] - before > 150 * MB
    del block
    free_memory()
    assert peak_memory("cpu")["host"] > after["host"] - 8 * MB  # the kernel counts in batches


def test_no_torch_is_imported_for_it() -> None:
    code = (
        "import sys; from crown_exp.devices.memory import free_memory, peak_memory\n"
        "free_memory(); peak_memory('cuda'); peak_memory('mps')\n"
        "print('torch' in sys.modules, peak_memory('cpu')['host'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, peak = said.stdout.split()
    assert imported == "False"
    assert 2 * MB < int(peak) < 200 * MB  # its own, not that of the process that started it


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_unit_of_getrusage(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    import resource

    monkeypatch.setattr(sys, "platform", system)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory.peak_by_usage() >= before * unit
    assert memory.peak_by_usage() < 2 * before * unit


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert memory.host_peak() == memory.peak_by_usage() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_peak_of_a_gpu() -> None:
    block = torch.ones(64 * MB // 4, device="cuda")
    assert peak_memory("cuda")["device"] >= 64 * MB
    del block
    free_memory()
    assert torch.cuda.memory_reserved() < 64 * MB
