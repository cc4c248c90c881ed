from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.compute import bundle as bundles
from crown_exp.compute import tree
from crown_exp.compute.bundle import Bundle, make_bundle
from crown_exp.compute.wheel import Wheel, own_wheel
from crown_exp.errors import ConfigError


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return own_wheel()


@pytest.fixture(autouse=True)
def nobody_edits_crown_exp_meanwhile(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheel is packed from these files, as they were at the first of these tests."""
    monkeypatch.setattr(bundles, "own_wheel", lambda: wheel)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "conf").mkdir(parents=True)
    (root / "tasks.py").write_text("def train(run): ...\n")
    (root / "conf/a.yaml").write_text("a: 1\n")
    return root


def make(root: Path, folder: Path, environment: str = "lock") -> Bundle:
    return make_bundle(root, folder, exclude=[], secrets={}, environment=environment)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_in_it(project: Path, tmp_path: Path) -> None:
    bundle = make(project, tmp_path / "bundles")
    found = contents(bundle.folder)
    wheel = next(name for name in found if name.endswith(".whl"))
    assert found.keys() == {
        "bundle.json", "code.tar.gz", "environment.py", "lock.txt", "start.py", wheel
    }  # fmt: skip
    assert bundle.folder == tmp_path / "bundles" / bundle.digest
    assert bundle.size == sum(map(len, found.values()))
    facts = json.loads(found.pop("bundle.json"))
    assert facts["digest"] == bundle.digest
    assert facts["environment"] == bundle.environment
    assert bundle.environment == hashlib.sha256(found["lock.txt"]).hexdigest()
    assert facts["files"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items()
    }
    with tarfile.open(bundle.folder / "code.tar.gz") as code:
        assert code.getnames() == ["conf/a.yaml", "tasks.py"]


def test_one_that_is_there_is_used_and_a_damaged_one_is_made_anew(
    project: Path, tmp_path: Path
) -> None:
    first = make(project, tmp_path / "bundles")
    before = contents(first.folder)
    stamp = (first.folder / "code.tar.gz").stat()
    assert make(project, tmp_path / "bundles") == first
    assert (first.folder / "code.tar.gz").stat() == stamp
    (first.folder / ".crown-job").mkdir()
    assert make(project, tmp_path / "bundles") == first
    (first.folder / "code.tar.gz").write_bytes(b"half")
    (tmp_path / "bundles/.part-of-one-that-was-killed").mkdir()
    assert make(project, tmp_path / "bundles") == first
    assert contents(first.folder) == before


def test_whatever_changes_makes_another(project: Path, tmp_path: Path) -> None:
    """A byte, a mode, a name, a link; not a time."""
    digests = [make(project, tmp_path / "bundles", "image").digest]

    def differs() -> bool:
        digests.append(make(project, tmp_path / "bundles", "image").digest)
        return digests[-1] not in digests[:-1]

    os.utime(project / "tasks.py", (1, 1))
    assert not differs()
    (project / "tasks.py").write_text("def train(run): pass\n")
    assert differs()
    (project / "tasks.py").chmod(0o755)
    assert differs()
    (project / "tasks.py").rename(project / "task.py")
    assert differs()
    (project / "link").symlink_to("task.py")
    assert differs()
    assert make(project, tmp_path / "bundles").digest not in digests


def test_what_nothing_began_in_for_two_months_is_deleted(project: Path, tmp_path: Path) -> None:
    folder, kept = tmp_path / "bundles", []
    for days in (61, 59, 61):
        (project / "tasks.py").write_text(f"DAYS = {days}, {len(kept)}\n")
        kept.append(make(project, folder).folder)
        os.utime(kept[-1], (time.time() - days * 86400,) * 2)
    assert make(project, folder).folder == kept[-1]  # the one that is used again stays
    assert set(folder.iterdir()) == set(kept[1:])


def test_without_an_environment_there_is_no_lock(project: Path, tmp_path: Path) -> None:
    bundle = make(project, tmp_path / "bundles", "image")
    assert bundle.environment == "image"
    assert not (bundle.folder / "lock.txt").exists()


def test_bundles_within_the_project_do_not_travel(project: Path) -> None:
    first = make(project, project / "bundles", "image")
    assert make(project, project / "bundles", "image").digest == first.digest


def test_a_refusal_leaves_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_FILE", 1000)
    (project / "weights.pt").write_bytes(bytes(2000))
    with pytest.raises(ConfigError, match=r"weights\.pt 0\.002 MB"):
        make(project, tmp_path / "bundles", "image")
    (project / "weights.pt").write_text("hf_" + "a1B2" * 9)
    with pytest.raises(ConfigError, match=r"^weights\.pt: looks like a secret"):
        make(project, tmp_path / "bundles", "image")
    assert not (tmp_path / "bundles").exists()


def test_many_at_once_make_one(project: Path, tmp_path: Path) -> None:
    made: list[Bundle] = []
    threads = [
        threading.Thread(target=lambda: made.append(make(project, tmp_path / "bundles", "image")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1 and len(made) == 4
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [made[0].digest]


def test_folders_that_an_editable_install_imports_from_are_noted(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (project / "src").mkdir()
    (project / "src/lib.py").write_text("")
    (site / "mine.pth").write_text(f"import sys\n{project}/src\n{project}\n{tmp_path}\n")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(site)])
    bundle = make(project, tmp_path / "bundles", "image")
    assert json.loads((bundle.folder / "bundle.json").read_text())["paths"] == ["src"]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0\\."), min_size=1, max_size=12)


@settings(max_examples=12)
@given(
    st.dictionaries(
        NAMES.map(lambda name: f"x{name}"), st.tuples(st.binary(max_size=200), st.booleans())
    ),
)
def test_equal_files_give_equal_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, bool]]
) -> None:
    """Whatever the order in which they were written, the umask, and where the project lies."""
    found = []
    for turn, umask in enumerate((0o022, 0o077)):
        root = tmp_path_factory.mktemp(f"project{turn}")
        before = os.umask(umask)
        try:
            for name in sorted(files, reverse=bool(turn)):
                (root / name).write_bytes(files[name][0])
                if files[name][1]:
                    (root / name).chmod(0o700 if turn else 0o755)
            folder = tmp_path_factory.mktemp("bundles") / "b"
            bundle = make(root, folder, "image")
        finally:
            os.umask(before)
        found.append((bundle.digest, contents(bundle.folder)))
        shutil.rmtree(folder)
    assert found[0] == found[1]
