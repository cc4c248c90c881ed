from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crown_exp.compute import archive
from crown_exp.compute.code import (
    CodeSnapshot,
    code_hash,
    imported_files,
    installed,
    snapshot,
)
from crown_exp.errors import ConfigError

SECRET = "correct horse battery 1"
SECRETS = {"MY_PASSWORD": SECRET}
BINARY = bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git without the user's own configuration, and as somebody."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")


def git(where: Path, *command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", *command], cwd=where, input=stdin, check=True, capture_output=True
    ).stdout


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def commit(root: Path, message: str = "one") -> None:
    git(root, "add", "--all")
    git(root, "commit", "-q", "--allow-empty", "-m", message)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q")
    write(
        root,
        {
            "train.py": "one\ntwo\nthree\n",
            "weights.bin": BINARY,
            "old name.py": "renamed\n" * 20,
            "gone.py": "gone\n",
            "run.sh": "#!/bin/sh\n",
            "turned.py": "a file\n",
            ".gitignore": "*.ckpt\n",
            "no-newline": "no newline",
            "windows.txt": "a\r\nb\r\n",
        },
    )
    commit(root)
    return root


def names(taken: CodeSnapshot) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(taken.untracked), errors="surrogateescape") as packed:
        return packed.getnames()


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every file and link: what it is, and its bytes or target."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if ".git" in path.relative_to(root).parts:
            continue
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_file():
            mode = "executable" if path.stat().st_mode & 0o100 else "file"
            found[name] = (mode, path.read_bytes())
    return found


def restored(repo: Path, taken: CodeSnapshot, into: Path) -> Path:
    """The project as somebody else gets it from the snapshot: its root."""
    into.mkdir()
    git(into, "init", "-q")
    if taken.commit:
        git(into, "fetch", "-q", str(repo), taken.commit)
        git(into, "checkout", "-q", "--detach", taken.commit)
    if taken.diff:
        git(into, "apply", stdin=taken.diff)
    root = into / taken.prefix
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(taken.untracked), errors="surrogateescape") as packed:
        packed.extractall(root, filter="data")
    return root


def change_all(root: Path) -> None:
    """Staged and not, text and binary, deleted, renamed, executable, a file to a directory."""
    write(root, {"train.py": "one\n2\nthree\n", "staged.py": "staged\n", "empty.py": ""})
    git(root, "add", "train.py", "staged.py", "empty.py")
    write(root, {"train.py": "one\n2\nthree\nfour\n", "weights.bin": BINARY[::-1] + b"\0"})
    git(root, "mv", "old name.py", "new name.py")
    git(root, "rm", "-q", "gone.py")
    (root / "run.sh").chmod(0o755)
    (root / "no-newline").write_bytes(b"still no newline")
    (root / "windows.txt").write_bytes(b"a\r\nB\r\n")
    (root / "turned.py").unlink()
    write(root, {"turned.py/inside.py": "now a directory\n"})
    write(root, {"deep/er/new.py": "new\n", "new.bin": BINARY, "model.ckpt": "ignored\n"})
    (root / "deep" / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (root / "deep" / "run.sh").chmod(0o755)
    (root / "link.py").symlink_to("deep/er/new.py")


def test_the_snapshot_gives_the_same_files_byte_for_byte(repo: Path, tmp_path: Path) -> None:
    change_all(repo)
    taken = snapshot(repo, [], SECRETS)
    assert taken.dirty
    assert taken.commit == git(repo, "rev-parse", "HEAD").decode().strip()
    expected = tree(repo)
    del expected["model.ckpt"]
    assert tree(restored(repo, taken, tmp_path / "there")) == expected
    assert taken.skipped == ()


def test_a_user_config_of_git_does_not_spoil_the_patch(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(
        "[diff]\nnoprefix = true\nmnemonicPrefix = true\nexternal = false\nrenames = copies\n"
        "context = 0\nsubmodule = log\nrelative = true\n[color]\nui = always\n"
        "[core]\nquotePath = false\npager = false\n",
        encoding="utf-8",
    )
    change_all(repo)
    plain = snapshot(repo, [], {})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert snapshot(repo, [], {}) == plain


def test_an_unchanged_work_tree_is_the_commit_alone(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    os.utime(repo / "train.py", (0, 0))  # touched, not changed
    taken = snapshot(repo, [], {})
    assert (taken.dirty, taken.diff, names(taken), taken.prefix) == (False, b"", [], "")
    assert taken.commit


def test_the_index_and_files_are_left_as_they_were(repo: Path) -> None:
    change_all(repo)
    before = (git(repo, "status", "--porcelain"), (repo / ".git" / "index").read_bytes())
    snapshot(repo, [], {})
    assert (repo / ".git" / "index").read_bytes() == before[1]
    assert git(repo, "status", "--porcelain") == before[0]


ODD = ["two words.py", 'quo"te.py', "apo'strophe.py", "new\nline.py", "tab\t.py", "ünï/çode.py"]
ODD += ["-flag.py", ":(glob)x.py", "back\\slash.py", "*.py", "$HOME.py", "sp ace /x.py"]


def test_odd_names_survive_tracked_and_untracked(repo: Path, tmp_path: Path) -> None:
    write(repo, dict.fromkeys(ODD, "before\n"))
    commit(repo)
    write(repo, dict.fromkeys(ODD, "after\n"))
    write(repo, {f"new {name}": "new\n" for name in ODD})
    undecodable = os.fsdecode(b"latin-\xe9.py")
    write(repo, {undecodable: "bytes\n"})
    taken = snapshot(repo, [], {})
    assert tree(restored(repo, taken, tmp_path / "there")) == tree(repo)


def test_a_project_below_the_top_of_the_work_tree(repo: Path, tmp_path: Path) -> None:
    write(repo, {"team/a b/task.py": "one\n", "team/other.py": "one\n"})
    commit(repo)
    root = repo / "team" / "a b"
    write(repo, {"team/other.py": "not ours\n", "team/new.py": "not ours\n", "train.py": "no\n"})
    write(root, {"task.py": "two\n", "x/new.py": "ours\n", "big.py": "x" * 5_000_001})
    write(repo, {"team/a b/.crown/runs/x": "state"})
    taken = snapshot(root, [root / ".crown"], {})
    assert taken.prefix == "team/a b/"
    assert b"not ours" not in taken.diff
    assert names(taken) == ["x/new.py"]
    assert [path for path, _ in taken.skipped] == ["big.py"]
    there = restored(repo, taken, tmp_path / "there")
    expected = tree(root)
    del expected["big.py"], expected[".crown/runs/x"]
    assert tree(there) == expected
    assert snapshot(repo, [], {}).digest != taken.digest


def test_before_the_first_commit_everything_is_in_the_archive(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    write(root, {"staged.py": "one\n", "deleted.py": "x\n", "new.py": "two\n", "a.ckpt": "ignored"})
    write(root, {".gitignore": "*.ckpt\n"})
    git(root, "init", "-q")
    git(root, "add", "staged.py", "deleted.py")
    (root / "deleted.py").unlink()
    taken = snapshot(root, [], {})
    assert (taken.commit, taken.dirty, taken.diff) == (None, True, b"")
    assert names(taken) == [".gitignore", "new.py", "staged.py"]


def test_an_unmerged_file_is_taken_as_it_stands(repo: Path, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "-b", "side")
    write(repo, {"train.py": "side\n"})
    commit(repo)
    git(repo, "checkout", "-q", "-")
    write(repo, {"train.py": "main\n"})
    commit(repo)
    merge = subprocess.run(["git", "merge", "side"], cwd=repo, check=False, capture_output=True)
    assert merge.returncode
    taken = snapshot(repo, [], {})
    assert tree(restored(repo, taken, tmp_path / "there")) == tree(repo)


def test_a_submodule_counts_by_its_commit(repo: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    write(inner, {"lib.py": "one\n"})
    git(inner, "init", "-q")
    commit(inner)
    allow = ("-c", "protocol.file.allow=always")
    git(repo, *allow, "submodule", "--quiet", "add", str(inner), "sub")
    commit(repo)
    write(repo, {"sub/lib.py": "changed inside\n", "sub/new.py": "new inside\n"})
    assert not snapshot(repo, [], {}).dirty
    commit(repo / "sub", "two")
    taken = snapshot(repo, [], {})
    assert taken.dirty
    assert git(repo / "sub", "rev-parse", "HEAD").strip() in taken.diff
    restored(repo, taken, tmp_path / "there")  # git apply takes it


def test_what_is_never_taken(repo: Path, tmp_path: Path) -> None:
    write(repo, {".env": "A=1\n", "deep/.env.local": "A=1\n", "keep.py": "x\n"})
    git(repo, "add", "--force", "--all")
    git(repo, "commit", "-qm", "with .env")
    write(repo, {".env": f"A={SECRET}\n", "deep/.env.local": SECRET, ".envrc": SECRET})
    write(repo, {".envs/prod": SECRET, "home/runs/x": SECRET, "home2.py": "x\n"})
    write(repo, {"venv/lib/x.py": "x\n", "env/pyvenv.cfg": "", "env/lib/x.py": "x\n"})
    write(repo, {"__pycache__/x.pyc": b"\0", "nested/lib.py": "x\n"})
    git(repo / "nested", "init", "-q")
    (repo / "out").symlink_to(tmp_path)
    (repo / "up").symlink_to("../x")
    os.mkfifo(repo / "pipe")
    taken = snapshot(repo, [repo / "home", tmp_path, repo, tmp_path / "elsewhere"], SECRETS)
    assert taken.diff == b""
    assert names(taken) == ["home2.py"]
    assert [path for path, _ in taken.skipped] == ["env/", "nested/", "out", "up"]


def test_large_files_are_named_and_left_out(repo: Path) -> None:
    large = b"x" * 5_000_001
    write(
        repo, {"was_large.bin": large + b"\0", "gone_large.bin": large + b"\0", "fits": large[1:]}
    )
    commit(repo)
    (repo / "gone_large.bin").unlink()
    write(repo, {"was_large.bin": b"\0", "train.py": large, "new.py": large, "fits": b"small\n"})
    taken = snapshot(repo, [], {})
    skipped = [path for path, why in taken.skipped if "5.0 MB" in why]
    assert skipped == ["gone_large.bin", "new.py", "train.py", "was_large.bin"]
    assert len(taken.diff) < 10_000_000
    assert b"small" in taken.diff
    assert taken.dirty


def test_a_full_archive_prefers_source_code(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ARCHIVE", 10)
    write(repo, {"a.csv": "1", "b.csv": "12345", "code.py": "123456", "c.csv": "12"})
    taken = snapshot(repo, [], {})
    assert names(taken) == ["a.csv", "c.csv", "code.py"]
    assert [path for path, _ in taken.skipped] == ["b.csv"]


def test_a_file_that_cannot_be_read_is_named(repo: Path) -> None:
    write(repo, {"locked.py": "x"})
    (repo / "locked.py").chmod(0)
    if os.access(repo / "locked.py", os.R_OK):
        pytest.skip("root reads everything")
    assert [path for path, _ in snapshot(repo, [], {}).skipped] == ["locked.py"]


@pytest.mark.parametrize("where", ["new.py", "train.py", "weights.bin", "ünï code.py"])
@pytest.mark.parametrize("before", [b"", b"\0" * 10])
def test_a_secret_is_refused_by_file_and_never_shown(repo: Path, where: str, before: bytes) -> None:
    write(repo, {where: before + SECRET.encode() + b"\n", "fine.py": "fine\n"})
    with pytest.raises(ConfigError) as caught:
        snapshot(repo, [], SECRETS)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].where == where
    assert "MY_PASSWORD" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_file_with_a_secret_is_told_at_once(repo: Path) -> None:
    git(repo, "mv", "old name.py", "neu ü.py")
    write(repo, dict.fromkeys(("neu ü.py", "train.py", "new.py"), SECRET))
    with pytest.raises(ConfigError) as caught:
        snapshot(repo, [], SECRETS)
    assert len(caught.value.problems) == 3


def test_a_secret_that_is_removed_still_stands_in_the_patch(repo: Path) -> None:
    write(repo, {"train.py": SECRET})
    commit(repo)
    write(repo, {"train.py": "removed\n"})
    with pytest.raises(ConfigError, match=r"train\.py"):
        snapshot(repo, [], SECRETS)
    commit(repo)
    assert not snapshot(repo, [], SECRETS).dirty


def test_without_git_the_text_files_are_taken(tmp_path: Path) -> None:
    root = tmp_path / "project"
    write(root, {"train.py": "x\n", "conf/config.yaml": "a: 1\n", "data.bin": BINARY})
    write(root, {".env": SECRET, ".hidden/x.py": "x", ".flake8": "x\n", "home/x.py": "x\n"})
    write(root, {"dist/x.py": "x", "a/build/x.py": "x", "env/pyvenv.cfg": "", "env/x.py": "x"})
    (root / "link.py").symlink_to("train.py")
    (root / "folder").symlink_to("conf")
    (root / "loop").symlink_to(".")
    taken = snapshot(root, [root / "home"], SECRETS)
    assert (taken.commit, taken.dirty, taken.diff, taken.prefix) == (None, True, b"", "")
    assert names(taken) == [".flake8", "conf/config.yaml", "folder", "link.py", "loop", "train.py"]
    assert [path for path, _ in taken.skipped] == ["data.bin", "env/"]
    there = restored(root, taken, tmp_path / "there")
    assert (there / "link.py").readlink() == Path("train.py")


def test_without_git_a_huge_directory_is_not_walked_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_LISTED", 3)
    write(tmp_path, {f"a/data/{index}.txt": "x" for index in range(9)})
    write(tmp_path, {"train.py": "x", "z/task.py": "x"})
    taken = snapshot(tmp_path, [], {})
    assert names(taken)[-2:] == ["train.py", "z/task.py"]
    assert len(names(taken)) == 3
    assert "more than 3 files" in taken.skipped[0][1]


def test_a_machine_without_git_is_no_error(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    taken = snapshot(repo, [], {})
    assert taken.commit is None
    assert "train.py" in names(taken)


def test_a_project_that_the_outer_repository_ignores_stands_alone(repo: Path) -> None:
    write(repo, {".gitignore": "mine/\n", "mine/train.py": "x\n"})
    taken = snapshot(repo / "mine", [], {})
    assert (taken.commit, names(taken)) == (None, ["train.py"])


def test_a_repository_that_git_refuses_is_an_error_in_gits_words(repo: Path) -> None:
    (repo / ".git" / "config").write_text("[core\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"git cannot read .*config"):
        snapshot(repo, [], {})


def test_equal_code_has_an_equal_digest_and_archive_anywhere(repo: Path, tmp_path: Path) -> None:
    change_all(repo)
    first = snapshot(repo, [], {})
    there = restored(repo, first, tmp_path / "there")
    for path in there.rglob("*.py"):
        if ".git" not in path.parts and path.is_file():
            os.utime(path, (1, 1))
    git(there, "add", "staged.py", "empty.py", "new name.py")
    (there / "model.ckpt").write_bytes(b"ignored")
    second = snapshot(there, [], {})
    assert (second.digest, second.untracked) == (first.digest, first.untracked)


@pytest.mark.parametrize("change", ["content", "name", "mode", "tracked", "link"])
def test_any_change_of_the_code_changes_the_digest(repo: Path, change: str) -> None:
    write(repo, {"new.py": "x\n"})
    (repo / "link").symlink_to("new.py")
    before = snapshot(repo, [], {}).digest
    if change == "content":
        write(repo, {"new.py": "y\n"})
    elif change == "name":
        (repo / "new.py").rename(repo / "now.py")
    elif change == "mode":
        (repo / "new.py").chmod(0o755)
    elif change == "tracked":
        write(repo, {"train.py": "other\n"})
    else:
        (repo / "link").unlink()
        (repo / "link").symlink_to("train.py")
    assert snapshot(repo, [], {}).digest != before


contents = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(["a\n", "b\n", "\n", "a\r\n", "é\n", "-- x\n", "end"]), max_size=8
    ).map(lambda lines: "".join(lines).encode()),
)
trees = st.dictionaries(st.sampled_from(["a.py", "b c.py", "d/e.py", "d/f", "é"]), contents)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(committed=trees, staged=trees, present=trees)
def test_any_tree_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    committed: dict[str, bytes],
    staged: dict[str, bytes],
    present: dict[str, bytes],
) -> None:
    where = tmp_path_factory.mktemp("any")
    root = where / "repo"
    root.mkdir()
    git(root, "init", "-q")
    for files, command in (
        (committed, ("commit", "-q", "--allow-empty", "-m", "one")),
        (staged, ("status",)),
        (present, None),
    ):
        for name in tree(root):
            (root / name).unlink()
        write(root, files)
        if command:
            git(root, "add", "--all")
            git(root, *command)
    taken = snapshot(root, [], {})
    assert tree(restored(root, taken, where / "there")) == present_tree(present)
    if present != committed:
        assert taken.dirty
    elif staged == committed:  # what the index lacks travels beside the commit, equal or not
        assert not taken.dirty


def present_tree(files: Mapping[str, bytes]) -> dict[str, tuple[str, bytes]]:
    return {name: ("file", data) for name, data in files.items()}


def module(path: Path | None) -> ModuleType:
    made = ModuleType("made")
    made.__file__ = None if path is None else str(path)
    return made


def test_the_imported_files_of_the_project_are_found_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "project"
    inside = {"tasks/train.py": "a", "lib.so": "b"}
    installed = ["x/site-packages/y.py", ".venv/lib/z.py"]
    write(root, {**inside, **dict.fromkeys(installed, "no"), "unused.py": "no"})
    write(tmp_path, {"project2/other.py": "no", "other.py": "no"})
    (tmp_path / "link").symlink_to(root)
    files = [root / name for name in (*inside, *installed, "gone.py")]
    files += [tmp_path / "project2" / "other.py", tmp_path / "other.py"]
    modules = {str(path): module(path) for path in files} | {"namespace": module(None)}
    expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in inside.items()}
    assert imported_files(root, modules) == expected
    assert imported_files(tmp_path / "link", modules) == expected
    through = {"a": module(tmp_path / "link" / "lib.so")}
    assert list(imported_files(tmp_path / "link", through)) == ["lib.so"]


def test_without_modules_it_is_what_this_process_imported() -> None:
    root = Path(archive.__file__).parents[2]
    found = imported_files(root)
    assert "crown_exp/compute/archive.py" in found
    assert not any("site-packages" in name for name in found)


@given(files=st.dictionaries(st.text("abc/.", min_size=1), st.text("0123456789abcdef")))
def test_the_code_hash_depends_on_every_file_and_on_no_order(files: dict[str, str]) -> None:
    assert code_hash(files) == code_hash(dict(reversed(files.items())))
    assert code_hash(files).startswith("v1:")
    assert code_hash({**files, "new.py": "0"}) != code_hash(files)
    for name in files:
        assert code_hash({**files, name: files[name] + "0"}) != code_hash(files)


def test_the_lock_lists_what_is_installed() -> None:
    first, *lines = installed().decode().splitlines()
    assert first == f"# python {sys.version.split()[0]}"
    assert f"pytest=={version('pytest')}" in lines
    assert f"pyyaml=={version('PyYAML')}" in lines
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    assert len({line.partition("==")[0] for line in lines}) == len(lines)
