"""What `run.track` takes beside objects with a state_dict: random generators and files, set in place."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crown_exp.checkpoints.tree import copied, flatten
from crown_exp.errors import TaskError
from crown_exp.runner.trackable import Trackable, trackable

KINDS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def adapter(value: Any) -> Trackable:
    found = trackable("rng", value)
    assert found is not None
    return found


def saved(value: Any) -> Any:
    """The state as a checkpoint gives it back."""
    state = adapter(value).state_dict()
    assert flatten(state, "rng")
    return copied(state)


def test_what_has_a_state_is_tracked_itself() -> None:
    for value in (torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)])):
        assert trackable("x", value) is value


@pytest.mark.parametrize(
    "value", [3, "x", torch.zeros(1), np.zeros(1), random, np.random, random.SystemRandom(), None,
              torch.nn.Linear, [random.Random()], np.random.SeedSequence(3)]
)  # fmt: skip
def test_all_else_cannot_be_tracked(value: Any) -> None:
    assert trackable("x", value) is None


class Dice(random.Random):
    """A user's own."""


@given(
    seed=st.integers(0, 2**64),
    before=st.integers(0, 9),
    kind=st.sampled_from([random.Random, Dice]),
)
def test_random(seed: int, before: int, kind: type[random.Random]) -> None:
    generator = kind(seed)
    drawn = lambda: (generator.gauss(0, 1), generator.random(), generator.getrandbits(70))  # noqa: E731
    for _ in range(before):
        generator.gauss(0, 1)
    state = saved(generator)
    first = drawn()
    adapter(generator).load_state_dict(state)
    assert drawn() == first


@given(seed=st.integers(0, 2**63 - 1), before=st.integers(0, 9))
def test_torch(seed: int, before: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(before):
        torch.randn(1, generator=generator)
    state = saved(generator)
    first = torch.randn(20, generator=generator)
    for _ in range(2):  # the state stays as it is
        adapter(generator).load_state_dict(state)
        assert torch.randn(20, generator=generator).equal(first)


def test_a_generator_of_another_device_is_left_and_told() -> None:
    tracked: Any = adapter(torch.Generator())
    before = tracked.generator.get_state()
    tracked.load_state_dict({"device": "cuda", "state": torch.zeros(16, dtype=torch.uint8)})
    assert tracked.left == "rng, a random generator of cuda, was not restored: this one is of cpu"
    assert tracked.generator.get_state().equal(before)
    tracked.load_state_dict(tracked.state_dict())
    assert tracked.left == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_generator_on_cuda() -> None:
    generator = torch.Generator("cuda").manual_seed(3)
    torch.randn(5, device="cuda", generator=generator)
    state = saved(generator)
    first = torch.randn(5, device="cuda", generator=generator)
    adapter(generator).load_state_dict(state)
    assert torch.randn(5, device="cuda", generator=generator).equal(first)


WAYS: dict[str, Callable[[str, int], Any]] = {
    "Generator": lambda kind, seed: np.random.Generator(getattr(np.random, kind)(seed)),
    "BitGenerator": lambda kind, seed: getattr(np.random, kind)(seed),
    "RandomState": lambda kind, seed: np.random.RandomState(getattr(np.random, kind)(seed)),
}


def drawn(generator: Any) -> Any:
    if isinstance(generator, np.random.BitGenerator):
        return generator.random_raw(5).tolist()
    integers = getattr(generator, "integers", None) or generator.randint
    normal = [generator.standard_normal() for _ in range(3)]
    return normal, integers(0, 9, 3, dtype=np.uint32).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@given(seed=st.integers(0, 2**64), before=st.integers(0, 5))
def test_numpy(way: str, kind: str, seed: int, before: int) -> None:
    generator = WAYS[way](kind, seed)
    for _ in range(before):
        drawn(generator)
    state = saved(generator)
    first = drawn(generator)
    for fresh in (generator, WAYS[way](kind, seed + 1)):
        adapter(fresh).load_state_dict(state)
        assert drawn(fresh) == first


def test_numpys_legacy_seed() -> None:
    generator = np.random.RandomState(3)
    generator.randn()
    state = saved(generator)
    first = generator.randn(3).tolist()
    adapter(generator).load_state_dict(state)
    assert generator.randn(3).tolist() == first


@given(
    entropy=st.none() | st.integers(0, 2**200) | st.lists(st.integers(0, 2**40), min_size=1),
    before=st.integers(0, 3), after=st.integers(0, 3), again=st.integers(0, 9),
)  # fmt: skip
def test_generators_that_are_spawned_are_the_same(
    entropy: Any, before: int, after: int, again: int
) -> None:
    generator = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(7,)))
    generator.spawn(before)
    state = saved(generator)
    first = [child.random() for child in generator.spawn(after)], generator.random()
    fresh = np.random.default_rng(5)
    fresh.spawn(again)
    for each in (generator, fresh):
        adapter(each).load_state_dict(state)
        assert ([child.random() for child in each.spawn(after)], each.random()) == first


def test_a_source_of_seeds_that_others_hold_stays_theirs() -> None:
    def made() -> tuple[np.random.SeedSequence, np.random.Generator]:
        source = np.random.SeedSequence(5)
        return source, np.random.default_rng(source)

    source, generator = made()
    source.spawn(4)
    state = saved(generator)
    source, generator = made()
    adapter(generator).load_state_dict(state)
    assert generator.bit_generator.seed_seq is source
    assert source.n_children_spawned == 4


@pytest.mark.parametrize("way", WAYS)
def test_a_generator_of_another_kind_is_refused(way: str) -> None:
    state = saved(WAYS[way]("PCG64", 1))
    with pytest.raises(TaskError, match="rng was a PCG64 when it was saved and is a SFC64; make"):
        adapter(WAYS[way]("SFC64", 1)).load_state_dict(state)


WITHOUT_TORCH = """
import json, sys
import numpy as np
from crown_exp.runner.trackable import trackable
rng = np.random.default_rng(3)
state = json.loads(json.dumps(trackable("rng", rng).state_dict()))
first = rng.random()
trackable("rng", rng).load_state_dict(state)
print(json.dumps([first == rng.random(), trackable("x", 3), "torch" in sys.modules]))
"""


def test_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert json.loads(done.stdout or done.stderr) == [True, None, False]


# --- files --------------------------------------------------------------------------------------------


def content(path: Path) -> Any:
    """All that is at a path."""
    if path.is_symlink():
        return "->", str(path.readlink())
    if path.is_dir():
        return {each.name: content(each) for each in path.iterdir()}
    return path.read_bytes() if path.exists() else None


def build(path: Path, tree: Any) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            build(path / name, inner)
    elif isinstance(tree, tuple):
        path.symlink_to(tree[1])
    elif tree is not None:
        path.write_bytes(tree)


names = st.sampled_from(["a", "b.txt", ".hidden", "ü n", "$tensor", "a.b"])
links = st.tuples(st.just("->"), st.sampled_from(["a", "nowhere", "/usr"]))
trees = st.recursive(
    st.binary(max_size=9) | links, lambda inner: st.dictionaries(names, inner, max_size=3)
)
places = st.none() | st.binary(max_size=9) | st.dictionaries(names, trees, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(was=places, then=places)
def test_a_path_becomes_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, was: Any, then: Any
) -> None:
    folder = tmp_path_factory.mktemp("files")
    build(folder / "here", was)
    state = saved(folder / "here")
    assert content(folder / "here") == was
    target = folder / "there"
    build(target, then)
    for _ in range(2):
        adapter(target).load_state_dict(state)
        assert content(target) == was
    assert {each.name for each in folder.iterdir()} <= {"here", "there"}


def test_a_file_that_is_the_same_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_bytes(b"one")
    os.utime(tmp_path / "data/x", (1, 1))
    adapter(tmp_path / "data").load_state_dict(saved(tmp_path / "data"))
    assert (tmp_path / "data/x").stat().st_mtime == 1


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"one")
    script.chmod(0o750)
    state = saved(script)
    script.write_bytes(b"two")
    adapter(script).load_state_dict(state)
    assert (script.read_bytes(), script.stat().st_mode & 0o777) == (b"one", 0o750)


def test_a_path_stays_where_it_was_when_the_task_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracked = adapter(Path("x"))
    (tmp_path / "x").write_bytes(b"one")
    state = copied(tracked.state_dict())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "x").unlink()
    tracked.load_state_dict(state)
    assert (tmp_path / "x").read_bytes() == b"one"


@pytest.mark.parametrize("path", [".", "..", "/", "~", "link"])
def test_a_folder_in_which_others_work_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=r"rng is .*, which holds .*; a resume removes what was"):
        trackable("rng", Path(path).expanduser())


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    tracked = adapter(tmp_path)
    with pytest.raises(TaskError, match=r"rng: .*/pipe is neither a file nor a folder"):
        tracked.state_dict()


@pytest.mark.parametrize("place", ["../x", "/x", "a/../../x", ""])
def test_a_saved_name_that_leads_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    state = {"kind": "folder", "links": {}, "folders": [], "files": {place: torch.zeros(1).byte()}}
    with pytest.raises(TaskError, match="lies elsewhere"):
        adapter(tmp_path / "data").load_state_dict(state)
    assert content(tmp_path) == {"data": {}}
