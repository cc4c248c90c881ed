from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from crown_exp.compute.code import snapshot
from crown_exp.compute.difference import Changed, Difference, Snapshot, difference
from crown_exp.errors import CrownError


def taken(root: Path) -> Snapshot:
    code = snapshot(root, [], {})
    return Snapshot(code.commit, code.prefix, code.diff, code.untracked)


def git(root: Path, *words: str) -> None:
    options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *options, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project below the top of a repository."""
    root = tmp_path / "packages/one"
    root.mkdir(parents=True)
    (tmp_path / "elsewhere.py").write_text("x\n")
    (root / "a.py").write_text("1\n2\n3\n")
    (root / "b.bin").write_bytes(b"\0\1\2")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return root


def test_commits_patches_and_new_files_are_all_told(project: Path) -> None:
    (project / "ünew\n.py").write_text("x\ny\n")
    (project / "link").symlink_to("a.py")
    old = taken(project)
    (project / "a.py").write_text("1\n3\n")
    (project.parents[1] / "elsewhere.py").write_text("other\n")  # not of the project
    git(project, "commit", "-qam", "two")
    (project / "a.py").write_text("1\n3\n4\n5\n")
    (project / "b.bin").write_bytes(b"\0\3")
    (project / "ünew\n.py").write_text("y\n")
    (project / "link").unlink()
    new = taken(project)
    told = difference(project, old, new)
    assert told == Difference(
        (
            Changed("packages/one/a.py", 2, 1),
            Changed("packages/one/b.bin"),
            Changed("packages/one/link", 0, 1),
            Changed("packages/one/ünew\n.py", 0, 1),
        )
    )
    back = difference(project, new, old)
    assert [(it.added, it.removed) for it in back.files] == [(1, 2), (None, None), (1, 0), (1, 0)]
    assert difference(project, new, new) == Difference(())


def test_a_file_that_was_untracked_and_is_committed_is_the_same(project: Path) -> None:
    (project / "new.py").write_text("x\n")
    (project / "tool.sh").write_text("#!/bin/sh\n")
    (project / "tool.sh").chmod(0o755)
    old = taken(project)
    git(project, "add", ".")
    git(project, "commit", "-qm", "two")
    assert difference(project, old, taken(project)) == Difference(())


def test_the_repository_is_left_as_it_was(project: Path) -> None:
    old = taken(project)
    (project / "new.py").write_text("x\n")
    (project / "a.py").write_text("other\n")
    new = taken(project)
    folder = project.parents[1] / ".git"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(difference(project, old, new).files) == 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_elsewhere_only_what_differs_from_the_commits_is_compared(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project / "a.py").write_text("other\n")
    (project / "new.py").write_text("x\n")
    old = taken(project)
    (project / "new.py").write_text("y\n")
    (project / "b.bin").write_bytes(b"\0\7")
    new = taken(project)
    told = difference(tmp_path_factory.mktemp("away"), old, new)
    assert told == Difference(
        (Changed("packages/one/b.bin"), Changed("packages/one/new.py")), whole=False
    )


def test_without_git_the_files_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1\n2\n")
    old = taken(tmp_path)
    (tmp_path / "a.py").write_text("1\n3\n4\n")
    (tmp_path / "b.py").write_text("x")
    assert difference(tmp_path, old, taken(tmp_path)) == Difference(
        (Changed("a.py", 2, 1), Changed("b.py", 1, 0))
    )


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(CrownError, match="damaged"):
        difference(tmp_path, Snapshot(None, "", b"", b"x"), Snapshot(None, "", b"", b"y"))


def test_a_patch_that_does_not_apply_is_no_end(project: Path) -> None:
    old = taken(project)
    broken = Snapshot(
        old.commit, old.prefix, b"diff --git a/a.py b/a.py\nnonsense\n", old.untracked
    )
    assert difference(project, old, broken) == Difference((Changed("a.py"),), whole=False)
