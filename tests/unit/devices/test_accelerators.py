"""Which of a few accelerators a machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.devices import accelerators
from crown_exp.devices.accelerators import Gpu, fitting, gpus

KNOWN = {
    "A100": ("NVIDIA A100-SXM4-40GB", 40960),
    "A100-80GB": ("NVIDIA A100 80GB PCIe", 81920),
    "A100-80GB-SXM": ("NVIDIA A100-SXM4-80GB", 81920),
    "A10": ("NVIDIA A10", 23028),
    "A10G": ("NVIDIA A10G", 23028),
    "B200": ("NVIDIA B200", 183359),
    "H100": ("NVIDIA H100 80GB HBM3", 81559),
    "H200": ("NVIDIA H200", 143771),
    "L4": ("NVIDIA L4", 23034),
    "L40": ("NVIDIA L40", 46068),
    "L40S": ("NVIDIA L40S", 46068),
    "P100": ("Tesla P100-PCIE-16GB", 16280),
    "RTX4090": ("NVIDIA GeForce RTX 4090", 24564),
    "RTXA6000": ("NVIDIA RTX A6000", 49140),
    "T4": ("Tesla T4", 15360),
    "V100": ("Tesla V100-SXM2-16GB", 16384),
    "V100-32GB": ("Tesla V100-SXM2-32GB", 32768),
}
"""What clouds call them; what nvidia-smi does, and the MiB that it tells."""


def gpu(name: str) -> Gpu:
    told, mib = KNOWN[name]
    return Gpu(told, mib / 1024)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_each_is_known_among_all(name: str) -> None:
    found = fitting([f"{it}:1" for it in KNOWN], [gpu(name)])
    same = {it for it in found if KNOWN[name][0].startswith("NVIDIA A100") and "80GB" in it}
    assert f"{name}:1" in found
    assert set(found) - same <= {f"{name}:1"}


@pytest.mark.parametrize(
    ("wanted", "has", "found"),
    [
        (["A100:1", "A100-80GB:1"], "A100", ["A100:1"]),
        (["A100:1", "A100-80GB:1"], "A100-80GB", ["A100-80GB:1"]),
        (["A100:1", "A100-80GB:1"], "A100-80GB-SXM", ["A100-80GB:1"]),
        (["A100:1", "H100:1"], "A100-80GB", ["A100:1"]),
        (["V100", "V100-32GB"], "V100", ["V100"]),
        (["V100", "V100-32GB"], "V100-32GB", ["V100-32GB"]),
        (["a100:1", "l4:1"], "L4", ["l4:1"]),
        (["A10:1", "A10G:1"], "A10", ["A10:1"]),
        (["tpu-v5e-8:1", "A100:1"], "H100", []),
        (["", "A100:1"], "T4", []),
    ],
)
def test_names_of_drivers_and_of_clouds(wanted: list[str], has: str, found: list[str]) -> None:
    assert fitting(wanted, [gpu(has)]) == found


def test_the_number_decides_where_it_can() -> None:
    eight = [gpu("A100")] * 8
    assert fitting(["A100:1", "A100:8"], eight) == ["A100:8"]
    assert fitting(["A100:1", "A100:4"], eight) == ["A100:1", "A100:4"]  # not all of them are ours
    assert fitting(["A100:1", "A100-80GB:8"], eight) == ["A100:1"]


LISTS = st.lists(
    st.builds(lambda name, count: f"{name}:{count}", st.sampled_from(sorted(KNOWN)), st.integers(1, 8)),
    unique=True, max_size=6,
)  # fmt: skip


@given(LISTS, st.sampled_from(sorted(KNOWN)), st.integers(1, 8))
def test_what_it_is_is_never_left_out(wanted: list[str], name: str, count: int) -> None:
    found = fitting([*wanted, f"{name}:{count}"], [gpu(name)] * count)
    assert f"{name}:{count}" in found
    assert all(it in wanted or it == f"{name}:{count}" for it in found)
    assert {it.partition("-")[0].partition(":")[0] for it in found} == {name.partition("-")[0]}


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=30), st.floats(0, 1e6))
def test_any_names_at_all(wanted: list[str], name: str, gib: float) -> None:
    assert [it for it in wanted if it in fitting(wanted, [Gpu(name, gib)])] == fitting(
        wanted, [Gpu(name, gib)]
    )
    assert fitting(wanted, []) == []


# --- the driver -------------------------------------------------------------------------------------------


def driver(folder: Path, script: str) -> None:
    """A program `nvidia-smi` in a folder."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for programs before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    return tmp_path


def test_the_driver_is_asked_for_names_and_memory(path: Path) -> None:
    driver(
        path,
        '[ "$*" = "--query-gpu=name,memory.total --format=csv,noheader" ] || exit 2\n'
        "echo 'NVIDIA A100-SXM4-40GB, 40960 MiB'\necho 'NVIDIA A100-SXM4-40GB, 40960 MiB'",
    )
    assert gpus() == (gpu("A100"), gpu("A100"))


@pytest.mark.parametrize("script", ["exit 9", "true", "exec sleep 60"])
def test_a_driver_that_tells_nothing_is_none(
    path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerators, "ASK_SECONDS", 0.5)
    driver(path, script)
    assert gpus() is None


def test_memory_that_is_not_told_is_in_many_names(path: Path) -> None:
    driver(path, "echo 'NVIDIA A100-SXM4-80GB, [N/A]'")
    found = gpus()
    assert found == (Gpu("NVIDIA A100-SXM4-80GB, [N/A]"),)
    assert fitting(["A100:1", "A100-80GB:1"], found) == ["A100-80GB:1"]


def test_a_machine_without_a_driver_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() is None
