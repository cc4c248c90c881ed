from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from crown_exp.compute.lock import CONSTRAINTS, Lock, make_lock

HEAD = f"# python {sys.version_info[0]}.{sys.version_info[1]}"


class Site:
    """A folder of installed packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: list[Distribution] = []

    def add(
        self,
        name: str,
        version: str = "1.0",
        requires: Sequence[str] = (),
        *,
        requested: bool = False,
        url: dict[str, Any] | None = None,
    ) -> None:
        info = self.root / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("\n".join(lines) + "\n\nRequires-Dist: no head\n")
        if requested:
            (info / "REQUESTED").touch()
        if url:
            (info / "direct_url.json").write_text(json.dumps(url))
        self.found.append(PathDistribution(info))

    def lock(self, project: str = "/nowhere") -> Lock:
        return make_lock(Path(project), self.found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def halves(lock: Lock) -> tuple[list[str], list[str]]:
    head, *lines = lock.text.splitlines()
    assert head == HEAD
    middle = lines.index(CONSTRAINTS)
    return lines[:middle], lines[middle + 1 :]


def test_what_nothing_asks_for_is_required_and_the_rest_only_pinned(site: Site) -> None:
    site.add("Top_Level", "2.0", ["middle>=1", "absent; extra == 'x'"])
    site.add("middle", "1.5+local.1", ["deep"])
    site.add("deep")
    site.add("wanted", requested=True)
    site.add("asks", requires=["wanted"])
    assert halves(site.lock()) == (
        ["asks==1.0", "top-level==2.0", "wanted==1.0"], ["deep==1.0", "middle==1.5"]
    )  # fmt: skip


def test_what_an_extra_brought_is_required(site: Site) -> None:
    """Which extras were asked for is written nowhere."""
    site.add("framework", requires=["tests; extra == 'dev'", "core"])
    site.add("tests")
    site.add("core")
    assert halves(site.lock()) == (["framework==1.0", "tests==1.0"], ["core==1.0"])


def test_what_only_a_mac_needs_breaks_no_linux(site: Site) -> None:
    site.add("ipython", requires=["appnope; sys_platform == 'darwin'", "decorator"])
    site.add("appnope")
    site.add("decorator")
    site.add("mlx")
    site.add(
        "project",
        requires=["ipython", "mlx; sys_platform == 'darwin' and extra == 'fast'"],
        url={"url": "file:///src/project", "dir_info": {"editable": True}},
    )
    required, pinned = halves(site.lock("/src/project"))
    assert required == ["ipython==1.0"]
    assert pinned == ["appnope==1.0", "decorator==1.0", "mlx==1.0"]


def test_what_torch_needs_of_a_gpu_comes_with_torch(site: Site) -> None:
    """A CPU's or another CUDA's torch here; there it is the index's, with libraries of its own choice."""
    site.add("torch", "2.13.0+cu126", ["cuda-toolkit[cublas]==12.6; platform_system == 'Linux'"])
    site.add("cuda-toolkit", "12.6", ["nvidia-cublas-cu12==12.6.*; extra == 'cublas'"])
    site.add("nvidia-cublas-cu12", "12.6.4")
    site.add("triton", "3.4.0")
    site.add("helper", requires=["triton"])
    site.add("nvidia-ml-py", "13.0")
    assert halves(site.lock()) == (
        ["helper==1.0", "nvidia-ml-py==13.0", "torch==2.13.0"], ["triton==3.4.0"]
    )  # fmt: skip


def test_where_it_came_from(site: Site) -> None:
    commit = {"url": "https://example.org/g.git", "subdirectory": "py"}
    site.add("g", url=commit | {"vcs_info": {"vcs": "git", "commit_id": "abc"}}, requires=["dep"])
    site.add("w", url={"url": "https://example.org/w-1.0.whl", "archive_info": {}})
    site.add("beside", url={"url": "file:///src/be%20side", "dir_info": {}}, requires=["dep2"])
    site.add("built", url={"url": "file:///src/built-1.0.whl", "archive_info": {}})
    site.add("inside", url={"url": "file:///src/project/lib", "dir_info": {"editable": True}})
    for name in ("dep", "dep2", "pip", "setuptools", "crown_exp"):
        site.add(name)
    lock = site.lock("/src/project")
    assert halves(lock) == (
        [
            "dep2==1.0",
            "g @ git+https://example.org/g.git@abc#subdirectory=py",
            "w @ https://example.org/w-1.0.whl",
        ],
        ["dep==1.0"],
    )
    assert [(name, why.partition(",")[0]) for name, why in lock.left_out] == [
        ("beside", "installed from /src/be side"),
        ("built", "installed from /src/built-1.0.whl"),
    ]


def test_the_first_of_a_name_counts_and_the_key_is_of_the_text(site: Site, tmp_path: Path) -> None:
    site.add("a", "1.0")
    first = site.lock()
    site.add("A", "2.0")
    assert site.lock() == first
    other = Site(tmp_path / "other")
    other.add("a", "2.0")
    assert other.lock().key != first.key
    assert len(first.key) == 64


NAMES = ("a", "b", "c", "d", "e", "f")


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "; extra == 'x'"])), max_size=4
        ),
        min_size=1,
    )
)
def test_nothing_is_lost_and_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, asks: dict[str, list[tuple[str, str]]]
) -> None:
    """Each package is in one half, and those in the second come because of the first: also in circles."""
    site = Site(tmp_path_factory.mktemp("site"))
    for name, wanted in asks.items():
        site.add(name, requires=[f"{other}{marker}" for other, marker in wanted])
    required, pinned = ([line.partition("=")[0] for line in half] for half in halves(site.lock()))
    assert sorted([*required, *pinned]) == sorted(asks)
    come, waiting = set(required), list(required)
    while waiting:
        for other, _ in asks.get(waiting.pop(), []):
            if other in asks and other not in come:
                come.add(other)
                waiting.append(other)
    assert come == set(asks)


def test_the_environment_of_these_tests() -> None:
    """Real packages: all but ours and pip are in it, by name and version."""
    required, pinned = halves(make_lock(Path(__file__).parents[3], distributions()))
    names = [Requirement(line).name for line in (*required, *pinned)]
    assert len(names) == len(set(names))
    assert {"torch", "hydra-core", "pytest", "numpy"} <= set(names)
    assert not {"pip", "setuptools", "crown-exp"} & set(names)
    assert "+" not in "".join(required + pinned)
