from __future__ import annotations

from pathlib import Path

import pytest

from crown_exp.cli.writing import write_all
from crown_exp.errors import ConfigError

FILES = {"a.txt": b"a", "deep/er/b.txt": b"b", "deep/c.txt": b"c", ".d": b"d"}


def tree(root: Path) -> dict[str, bytes | None]:
    """Every folder (None) and file below a directory."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }


def contents(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(root).items() if data is not None}


@pytest.mark.parametrize("place", ["", "new", "new/er"])
def test_every_file_is_written_beside_what_is_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "other").write_bytes(b"x")
    write_all(tmp_path / place, FILES)
    assert (tmp_path / "other").read_bytes() == b"x"
    written = contents(tmp_path / place)
    written.pop("other", None)
    assert written == FILES


@pytest.mark.parametrize("path", FILES)
def test_nothing_is_written_over_anything(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="already; nothing was written") as refusal:
        write_all(tmp_path, FILES)
    assert path in str(refusal.value)
    assert tree(tmp_path) == before


def test_all_that_is_in_the_way_is_told_at_once(tmp_path: Path) -> None:
    write_all(tmp_path, FILES)
    with pytest.raises(ConfigError) as refusal:
        write_all(tmp_path, FILES)
    assert f"{tmp_path}: .d, a.txt, deep/c.txt, deep/er/b.txt exist already" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_link_that_leads_nowhere_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"a\.txt exists already"):
        write_all(tmp_path, FILES)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("place", ["", "file/below"])
def test_a_file_where_a_folder_must_be_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / ("file" if place else "deep")).write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="is no directory; nothing was written"):
        write_all(tmp_path / place, FILES)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", ["", "new"])
def test_what_was_begun_is_taken_back_if_a_file_cannot_be_written(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "other").write_bytes(b"x")
    too_long = "x" * 300
    with pytest.raises(ConfigError, match="cannot write: File name too long; nothing was"):
        write_all(tmp_path / place, {**FILES, f"last/{too_long}": b""})
    assert tree(tmp_path) == {"other": b"x"}
