from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from crown_exp.__main__ import guarded
from crown_exp.cli.init import OWN_GROUPS, missing_modules, parts_of, project_files, templates
from crown_exp.config.project import builtin_conf, find_project
from crown_exp.errors import ConfigError

ROOT = builtin_conf().parent
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_whole_project_of_the_repository_s_own_files(preset: str) -> None:
    files = project_files(preset, "mine")
    copied = {path for path in files if path.startswith(("conf/", "experiments/", ".env"))}
    assert {f"conf/experiment/{preset}.yaml", ".env.example"} < copied
    assert {path: files[path] for path in copied} == {
        path: (ROOT / path).read_bytes() for path in copied
    }
    assert {"pyproject.toml", ".gitignore", "README.md", "tests/test_experiment.py"} == (
        files.keys() - copied
    )
    assert sum(path.startswith("conf/experiment/") for path in files) == 1
    assert "tool" in tomllib.loads(files["pyproject.toml"].decode())
    assert f'"+experiment={preset}"' in files["tests/test_experiment.py"].decode()
    ast.parse(files["tests/test_experiment.py"])
    assert not any(b"$" in data for path, data in files.items() if path not in copied)


def test_a_project_has_every_option_of_its_module_and_nothing_of_the_framework_s() -> None:
    files = project_files("digits_cnn", "mine")
    assert {path for path in files if path.startswith(("conf/", "experiments/"))} == {
        "conf/dataset/digits.yaml",
        "conf/experiment/digits_cnn.yaml",
        "conf/model/cnn.yaml",
        "conf/model/mlp.yaml",
        "conf/task/image_classification.yaml",
        "experiments/image_classification.py",
    }


def test_what_a_preset_chooses_comes_along_even_from_another_module(tmp_path: Path) -> None:
    for path, text in {
        "experiment/x": "defaults:\n- override /task: t\n- override /model: deep/net\n- /dataset: d",
        "experiment/y": "defaults: [{override /task: t}]",
        "task/t": "_target_: experiments.t.train",
        "model/deep/net": "_target_: torchvision.models.resnet18",
        "model/other": "_target_: torchvision.models.vgg11",
        "dataset/d": "",
        "dataset/own": "_target_: experiments.t.Data",
        "optimizer/adamw": "_target_: experiments.t.Optimizer",
    }.items():
        file = tmp_path / "conf" / f"{path}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    names = ("dataset/d", "dataset/own", "experiment/x", "model/deep/net", "task/t")
    assert parts_of(tmp_path, "x") == ("experiments.t", [f"conf/{name}.yaml" for name in names])


def test_the_wheel_leaves_out_just_what_init_writes() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert hatch["targets"]["wheel"]["exclude"] == [f"/conf/{group}" for group in OWN_GROUPS]
    assert templates() == ROOT  # a checkout has no copy of them


def test_init_writes_a_project_and_says_what_to_type(empty: Path, capsys: Capture) -> None:
    assert guarded(["init", "my project"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    files = written(empty / "my project")
    assert files == project_files("digits_cnn", "").keys()
    assert all(f"  {path}\n" in out for path in files)
    assert out.endswith("  cd 'my project'\n  python -m crown_exp +experiment=digits_cnn\n")
    project = find_project(empty / "my project" / "tests")
    assert project is not None
    assert project.root == empty / "my project"
    assert project.conf == (project.root / "conf",)


def test_init_here_needs_no_cd(empty: Path, capsys: Capture) -> None:
    assert guarded(["init"]) == 0
    assert written(empty) == project_files("digits_cnn", "").keys()
    assert "cd " not in capsys.readouterr().out


def test_a_second_init_writes_nothing(empty: Path, capsys: Capture) -> None:
    guarded(["init"])
    (empty / "README.md").write_text("mine")
    (empty / "pyproject.toml").unlink()
    capsys.readouterr()
    assert guarded(["init"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("this directory: .env.example, .gitignore, README.md, conf/")
    assert "pyproject.toml" not in err
    assert "nothing was written" in err
    assert not (empty / "pyproject.toml").exists()
    assert (empty / "README.md").read_text() == "mine"


def test_an_unknown_preset_is_one_line_with_the_nearest(empty: Path, capsys: Capture) -> None:
    assert guarded(["init", "--from", "digit_cnn", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "--from digit_cnn: no such experiment; did you mean digits_cnn?\n"
    assert not (empty / "x").exists()
    with pytest.raises(ConfigError, match=r"known: .*digits_cnn"):
        project_files("zzzz", "x")


@pytest.mark.parametrize(
    ("name", "package"),
    [("My Project", "my-project"), ("a_b.c", "a-b-c"), ("-x-", "x"), ("日本", "experiments")],
)
def test_a_project_s_name_is_legal_whatever_its_directory_is_called(
    name: str, package: str
) -> None:
    files = project_files("digits_cnn", name)
    assert tomllib.loads(files["pyproject.toml"].decode())["project"]["name"] == package
    assert files["README.md"].decode().startswith(f"# {name}\n")


def test_what_an_experiment_imports_and_this_environment_lacks_is_named() -> None:
    code = b"import os, nosuch.thing\nfrom . import near\ndef f():\n    from absent import x\n"
    assert missing_modules({"experiments/a.py": code, "tests/t.py": b"import other"}) == [
        "absent",
        "nosuch",
    ]
    assert missing_modules(project_files("digits_cnn", "x")) == []


PRESETS = "digits_cnn, ppo_cartpole, tiny_gpt, tokenize_corpus"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([""], 'init: expected a directory, got ""; this one is typed .\n'),
        (["--from="], f"--from: names no experiment; known: {PRESETS}\n"),
    ],
)
def test_an_empty_word_is_not_taken_for_here(
    typed: list[str], said: str, empty: Path, capsys: Capture
) -> None:
    assert guarded(["init", *typed]) == 2
    assert capsys.readouterr().err == said
    assert not written(empty)
