from __future__ import annotations

from pathlib import Path

import pytest

from crown_exp.config.project import Project, builtin_conf, conf_dirs, find_project
from crown_exp.errors import CrownError, SettingsError


def write(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_project_is_found_from_any_directory_and_file_below_it(tmp_path: Path) -> None:
    write(tmp_path, '[tool.crown_exp]\nstore = "s3://bucket/x"\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "task.py").touch()
    (tmp_path / "conf").mkdir()
    expected = Project(tmp_path, (tmp_path / "conf",), "s3://bucket/x")
    assert find_project(tmp_path) == expected
    assert find_project(deep) == expected
    assert find_project(deep / "task.py") == expected


def test_the_nearest_project_counts_and_a_pyproject_of_others_is_passed_by(tmp_path: Path) -> None:
    write(tmp_path, "[tool.crown_exp]\n")
    write(tmp_path / "inner", "[tool.crown_exp]\n")
    write(tmp_path / "inner" / "other", '[project]\nname = "other"\n')
    found = find_project(tmp_path / "inner" / "other")
    assert found == Project(tmp_path / "inner")


def test_without_a_marker_there_is_no_project(tmp_path: Path) -> None:
    write(tmp_path / "broken", "this is [ not toml")  # nobody's business: it does not name us
    assert find_project(tmp_path / "broken") is None


def test_a_relative_start_is_resolved_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "[tool.crown_exp]\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert find_project(Path("..")) == Project(tmp_path)


def test_conf_may_be_another_directory(tmp_path: Path) -> None:
    write(tmp_path, '[tool.crown_exp]\nconf = "configs/lab"\n')
    (tmp_path / "configs" / "lab").mkdir(parents=True)
    found = find_project(tmp_path)
    assert found is not None
    assert found.conf == (tmp_path / "configs" / "lab",)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[tool.crown_exp]\nstore = \n", 2, "is not TOML"),
        ('[tool.crown_exp]\nstore = "x', 2, "is not TOML"),
        ('[x]\n\n[tool.crown_exp]\n\nstor = "x"\n', 5, "stor: is not a key; did you mean store?"),
        ("[tool.crown_exp]\nstore = 3\n", 2, "store: expected a string"),
        ('[tool.crown_exp]\nconf = ""\n', 2, "conf: expected a string"),
        ('[tool.crown_exp]\nconf = "nowhere"\n', 2, "is no directory"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        find_project(tmp_path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_of_the_table_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, '[tool.crown_exp]\nstor = "x"\nconfig = "y"\n')
    with pytest.raises(SettingsError) as caught:
        find_project(tmp_path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_marker_that_is_no_table_and_a_file_that_is_no_text_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "[tool]\ncrown_exp = 3\n")
    with pytest.raises(SettingsError, match="expected a table"):
        find_project(tmp_path)
    (tmp_path / "pyproject.toml").write_bytes(b"# crown_exp\n# \xff\n")
    with pytest.raises(SettingsError, match=r"pyproject\.toml:2: is not UTF-8"):
        find_project(tmp_path)


def test_the_builtin_conf_is_in_the_package_or_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "crown_exp"
    with pytest.raises(CrownError, match=r"config\.yaml"):
        builtin_conf(package)
    for directory in (tmp_path / "conf", package / "conf"):  # an installed one wins
        directory.mkdir(parents=True)
        (directory / "config.yaml").touch()
        assert builtin_conf(package) == directory


def test_directories_layer_once_extra_ones_on_top_and_never_the_builtin_one(
    tmp_path: Path,
) -> None:
    mine, team = tmp_path / "mine", tmp_path / "team"
    mine.mkdir()
    team.mkdir()
    (tmp_path / "link").symlink_to(mine)
    project = Project(tmp_path, conf=(mine, builtin_conf()))
    assert conf_dirs(project) == (mine,)
    assert conf_dirs(None) == ()
    extra = [team, tmp_path / "absent", tmp_path / "link", team]
    assert conf_dirs(project, extra) == (team, tmp_path / "link")
