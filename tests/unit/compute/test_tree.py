from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from crown_exp.compute import archive, tree
from crown_exp.compute.tree import Tree, project_tree
from crown_exp.errors import ConfigError

SECRET = "correct horse battery 1"
SECRETS = {"MY_PASSWORD": SECRET}
SHAPED = "hf_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git without the user's own configuration, and as somebody."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")


def git(where: Path, *command: str) -> None:
    subprocess.run(["git", *command], cwd=where, check=True, capture_output=True)


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def repository(root: Path, files: Mapping[str, str | bytes]) -> Path:
    root.mkdir(parents=True)
    git(root, "init", "-q")
    write(root, files)
    git(root, "add", "--all")
    git(root, "commit", "-q", "--allow-empty", "-m", "one")
    return root


def names(taken: Tree) -> list[str]:
    return [file.path for file in taken.files]


def test_it_is_what_lies_there(tmp_path: Path) -> None:
    """Committed, staged, changed, untracked, binary, executable, a link; not what is deleted or ignored."""
    root = repository(
        tmp_path / "repo",
        {
            "a.py": "1",
            "gone.py": "1",
            "data.bin": bytes(300),
            "run.sh": "#",
            ".gitignore": "*.ckpt",
        },
    )
    write(root, {"staged.py": "1", "new/er.bin": bytes(9), "model.ckpt": "1", "a.py": "2"})
    git(root, "add", "staged.py")
    (root / "gone.py").unlink()
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("/data/somewhere")
    taken = project_tree(root, [], {})
    assert names(taken) == [
        ".gitignore", "a.py", "data.bin", "link", "new/er.bin", "run.sh", "staged.py"
    ]  # fmt: skip
    by_name = {file.path: file for file in taken.files}
    assert by_name["a.py"].data == b"2"
    assert by_name["run.sh"].executable and not by_name["a.py"].executable
    assert by_name["link"].link == "/data/somewhere"
    assert taken.skipped == []


def test_the_project_may_lie_below_the_top(tmp_path: Path) -> None:
    root = repository(tmp_path / "repo", {"beside.py": "", "mine/a.py": "", "mine/b/c.py": ""})
    assert names(project_tree(root / "mine", [], {})) == ["a.py", "b/c.py"]


def test_before_the_first_commit(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q")
    write(root, {"staged.py": "", "new.py": "", "held.py": SECRET})
    git(root, "add", "staged.py", "held.py")
    with pytest.raises(ConfigError, match=r"held\.py: looks like a secret"):
        project_tree(root, [], SECRETS)
    (root / "held.py").unlink()
    assert names(project_tree(root, [], SECRETS)) == ["new.py", "staged.py"]


def test_submodules_and_repositories_within_travel_as_they_are(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"lib.py": "1", ".gitignore": "*.o"})
    root = repository(tmp_path / "repo", {"a.py": ""})
    allowed = ("-c", "protocol.file.allow=always")
    git(root, *allowed, "submodule", "add", "-q", str(library), "third/library")
    git(root, "commit", "-q", "-m", "two")
    write(root, {"third/library/lib.py": "2", "third/library/x.o": "", "third/library/new.py": ""})
    repository(root / "nested", {"n.py": ""})
    taken = project_tree(root, [], {})
    assert names(taken) == [
        ".gitmodules", "a.py", "nested/n.py", "third/library/.gitignore", "third/library/lib.py",
        "third/library/new.py",
    ]  # fmt: skip
    assert next(f.data for f in taken.files if f.path == "third/library/lib.py") == b"2"

    write(root, {"third/library/lib.py": f"password = '{SECRET}'"})
    with pytest.raises(ConfigError, match=r"lib\.py: looks like a secret"):
        project_tree(root, [], SECRETS)

    git(root, "submodule", "deinit", "-q", "--force", "third/library")
    taken = project_tree(root, [], {})
    assert names(taken) == [".gitmodules", "a.py", "nested/n.py"]
    assert taken.skipped == [("third/library/", tree.NO_CHECKOUT)]


def test_what_stays_here_is_told(tmp_path: Path) -> None:
    root = repository(tmp_path / "repo", {"a.py": "", ".env": "KEY=1", "venv/tracked.py": ""})
    write(root, {"mine/pyvenv.cfg": "", "mine/bin/python": "", "__pycache__/a.pyc": "", "b.py": ""})
    os.mkfifo(root / "pipe")
    taken = project_tree(root, [root / "b.py", tmp_path], {})
    assert names(taken) == ["a.py", "venv/tracked.py"]
    assert [path for path, _ in taken.skipped] == [".env", "mine/"]


def test_without_git_all_that_looks_like_the_project(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "b.bin": bytes(9), ".venv/x.py": "", "c/d.yaml": "", ".env": ""})
    assert names(project_tree(tmp_path, [], {})) == ["a.py", "b.bin", "c/d.yaml"]
    write(tmp_path, {"a.py": f"key = '{SHAPED}'"})
    with pytest.raises(ConfigError, match=r"^a\.py: looks like a secret"):
        project_tree(tmp_path, [], {})


def test_a_secret_that_git_has_already_is_no_new_one(tmp_path: Path) -> None:
    """As for a run's snapshot: a test's made-up token stays usable, a new one does not travel."""
    root = repository(tmp_path / "repo", {"a.py": f"key = '{SHAPED}'"})
    assert names(project_tree(root, [], {})) == ["a.py"]
    write(root, {"b.py": f"key = '{SHAPED}'"})
    with pytest.raises(ConfigError, match=r"^b\.py: looks like a secret"):
        project_tree(root, [], {})
    (root / "b.py").unlink()
    write(root, {"a.py": f"key = '{SHAPED[:-1]}Z'"})
    with pytest.raises(ConfigError, match=r"^a\.py: looks like a secret"):
        project_tree(root, [], {})


def test_a_large_change_is_looked_through_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_FILE", 1000)
    root = repository(tmp_path / "repo", {"a.txt": "x" * 2000})
    write(root, {"a.txt": "x" * 2000 + SECRET})
    with pytest.raises(ConfigError, match=r"^a\.txt: looks like a secret"):
        project_tree(root, [], SECRETS)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracked or not, with or without git: it is named, and what to do is said."""
    monkeypatch.setattr(tree, "MAX_FILE", 1_000_000)
    root = repository(tmp_path / "repo", {"a.py": "", "weights.pt": bytes(2_000_000)})
    write(root, {"more.pt": bytes(3_000_000)})
    with pytest.raises(ConfigError) as caught:
        project_tree(root, [], {})
    assert str(caught.value) == (
        "code: the project is too big to travel to another machine: 2 of its files are over 1 MB "
        "(the largest: more.pt 3 MB, weights.pt 2 MB); list what is no code in .gitignore, and keep "
        "data in the store"
    )
    assert caught.value.exit_code == 2
    (tmp_path / "plain").mkdir()
    (root / "more.pt").rename(tmp_path / "plain/more.pt")
    with pytest.raises(
        ConfigError, match=r"one of its files is .*more\.pt 3 MB.*`git init`, and list"
    ):
        project_tree(tmp_path / "plain", [], {})


def test_a_project_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_TREE", 10_000)
    monkeypatch.setattr(tree, "MAX_FILES", 30)
    root = repository(tmp_path / "repo", {f"data/{n:02}.txt": bytes(900) for n in range(12)})
    with pytest.raises(
        ConfigError, match=r"in 12 files, over 0\.01 MB \(the largest: data/00\.txt"
    ):
        project_tree(root, [], {})
    write(root, {f"data/{n:02}.txt": b"" for n in range(40)})
    with pytest.raises(ConfigError, match=r"40 files, over 30 \(the largest: data/ 40 files\)"):
        project_tree(root, [], {})
    monkeypatch.setattr(archive, "MAX_LISTED", 30)
    (tmp_path / "plain").mkdir()
    (root / "data").rename(tmp_path / "plain/data")
    with pytest.raises(ConfigError, match=r"more than 30 files; `git init`"):
        project_tree(tmp_path / "plain", [], {})


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = repository(tmp_path / "repo", {"a.py": ""})
    (root / "a.py").chmod(0)
    with pytest.raises(ConfigError, match=r"^a\.py: cannot be read, so it cannot travel"):
        project_tree(root, [], {})
