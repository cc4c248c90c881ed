"""A checkpoint of any state is a file that stock safetensors loads, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from crown_exp.checkpoints.export import DTYPES, Exported, exported
from crown_exp.checkpoints.tree import bits, is_tensor
from crown_exp.errors import ConfigError
from crown_exp.storage import BlobStore, Portal
from tests.checkpoint_states import DTYPES as TORCH_DTYPES
from tests.checkpoint_states import PATHS, STATES, attempt, memory_store, saved, tensors

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
ANY = settings(
    max_examples=150, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tensors run over packs and pieces."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 256)
    monkeypatch.setattr("crown_exp.checkpoints.streaming.PIECE", 48)


def written(portal: Portal, blobs: BlobStore, state: Any, target: Path, **options: Any) -> Exported:
    saved(attempt(portal, blobs), 1, state)
    return portal.call(exported, blobs, PATHS, (1, 1), target, **options)


def as_stored(tensor: torch.Tensor) -> torch.Tensor:
    """As the docstring of the module says: the same bits, of a dtype that safetensors has."""
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if plain.is_complex():
        return torch.view_as_real(plain)
    if str(plain.dtype).removeprefix("torch.") not in DTYPES:
        return plain.view(torch.uint8)
    return plain


def tensors_in(node: Any) -> Iterator[torch.Tensor]:
    if is_tensor(node):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from tensors_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from tensors_in(value)


def key_of(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return str(tensor.dtype), tuple(tensor.shape), bits(tensor).numpy().tobytes()


@given(STATES, tensors())
@ANY
def test_every_tensor_is_there_to_the_bit(
    portal: Portal, tmp_path: Path, state: Any, more: torch.Tensor
) -> None:
    target = tmp_path / "state.safetensors"
    made = written(portal, memory_store(), [state, more], target)
    assert made.bytes == target.stat().st_size
    loaded = load_file(target)
    wanted = [as_stored(tensor) for tensor in tensors_in([state, more])]
    assert made.tensors == len(loaded) == len(wanted)
    assert sorted(map(key_of, loaded.values())) == sorted(map(key_of, wanted))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_dtype(portal: Portal, tmp_path: Path, dtype: torch.dtype) -> None:
    seeded = torch.Generator().manual_seed(1)
    raw = torch.randint(0, 2, (40 * dtype.itemsize,), dtype=torch.uint8, generator=seeded)
    wide = raw.view(dtype).view(5, 8)
    state = {
        "tracked": {"net": {"wide": wide, "turned": wide.T, "none": wide[:0], "one": wide[0, 0]}}
    }
    made = written(portal, memory_store(), state, tmp_path / "x.safetensors")
    loaded = load_file(made.path)
    for name, tensor in state["tracked"]["net"].items():
        assert key_of(loaded[f"net.{name}"]) == key_of(as_stored(tensor)), name
    known = str(dtype).removeprefix("torch.") in DTYPES
    assert len(made.changed) == (0 if known else 4)


def test_names_and_metadata(portal: Portal, tmp_path: Path) -> None:
    weight = torch.ones(3)
    state = {
        "tracked": {
            "net": {"conv.weight": weight, "head": {"weight": weight}, "c": torch.ones(2) * 1j},
            "opt": {"state": {0: {"step": torch.tensor(3.0)}}, "lr": 0.1},
            "random": torch.zeros(1),
        },
        "random": [torch.ones(1)],
        "__metadata__": torch.ones(1),
    }  # fmt: skip
    blobs = memory_store()
    made = written(portal, blobs, state, tmp_path / "x.safetensors")
    assert set(load_file(made.path)) == {
        "net.conv.weight", "net.head.weight", "net.c", "opt.state.0.step", "random", "random.0",
        "__metadata__#2",
    }  # fmt: skip
    assert made.changed == ("net.c is complex64; written as float32 of shape (2, 2)",)
    with safe_open(made.path, "pt") as file:
        metadata = file.metadata()
    of = json.loads(metadata["crown_exp"])
    assert (of["run"], of["step"], of["dtypes"]) == (PATHS.run_id, 1, {"net.c": "complex64"})
    tree = json.loads(metadata["tree"])
    assert tree["tracked"]["net"]["head"]["weight"] == {"$tensor": "net.conv.weight"}
    assert tree["tracked"]["opt"]["lr"] == 0.1

    some = portal.call(exported, blobs, PATHS, (1, 1), made.path, only=["net.conv", "opt"])
    assert set(load_file(some.path)) == {"net.conv.weight", "opt.state.0.step"}
    with pytest.raises(
        ConfigError, match=r"no tensor of .*@1 is named so; there are net, opt, random"
    ):
        portal.call(exported, blobs, PATHS, (1, 1), made.path, only=["net.con"])


def test_a_state_without_tensors(portal: Portal, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tensors"):
        written(portal, memory_store(), {"position": 3}, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@given(st.data())
@ANY
def test_a_damaged_byte_leaves_no_file(portal: Portal, tmp_path: Path, data: st.DataObject) -> None:
    from crown_exp.folder.records import Damaged

    blobs = memory_store()
    saved(attempt(portal, blobs), 1, torch.arange(200))
    packs = [entry.path for entry in portal.call(blobs.list, PATHS.packs)]
    path = data.draw(st.sampled_from(packs))
    raw = bytearray(portal.call(blobs.get, path))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 4
    portal.call(blobs.put, path, bytes(raw))
    with pytest.raises(Damaged, match="does not hold the bytes"):
        portal.call(exported, blobs, PATHS, (1, 1), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
