"""What a newcomer does: install the wheel, `init`, add a model of one's own, run it."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from crown_exp.cli.init import OWN_GROUPS, project_files
from crown_exp.config.project import builtin_conf

ROOT = builtin_conf().parent
DIGITS = "+experiment=digits_cnn"

MODEL = '''"""A model of one's own."""

from torch import Tensor, nn


class Mine(nn.Module):
    """One hidden layer and a tanh."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
'''
YAML = "_target_: experiments.mine.Mine\nhidden: 48\n"


def environment(venv_bin: Path, home: Path) -> dict[str, str]:
    """The environment of someone who has nothing of ours but this virtual environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CROWN_", "PYTHON", "PYTEST_", "HYDRA_", "COV_"))
    }
    return kept | {"PATH": f"{venv_bin}{os.pathsep}{kept['PATH']}", "HOME": str(home)}


class Shell:
    """Runs commands of one virtual environment in one directory."""

    def __init__(self, venv_bin: Path, directory: Path) -> None:
        self.bin, self.directory = venv_bin, directory

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.directory,
            env=environment(self.bin, self.directory),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == code, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran

    def at(self, folder: str) -> Shell:
        return Shell(self.bin, self.directory / folder)


def new_environment(folder: Path, *install: str) -> Path:
    """The bin of a new virtual environment with one package, and this interpreter's others to import.

    A path that a .pth file names is only a path: the .pth files there, such as that of an editable
    crown_exp, are not read.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    purelib = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (purelib / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
            *("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"),
            *install,
        ],
        check=True,
    )
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", str(folder), str(ROOT)),
        ],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_environment(tmp_path_factory.mktemp("venv"), str(wheel))


@pytest.fixture(scope="module")
def project(venv_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A project that `init` wrote into an empty directory, with a model of one's own: one file, one yaml."""
    shell = Shell(venv_bin, tmp_path_factory.mktemp("work"))
    shell.run("crown-exp", "init", "--from", "digits_cnn")
    assert written(shell.directory) == project_files("digits_cnn", shell.directory.name)
    (shell.directory / "experiments" / "mine.py").write_text(MODEL)
    (shell.directory / "conf" / "model" / "mine.yaml").write_text(YAML)
    return shell


def written(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_wheel_holds_the_framework_and_what_init_writes(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"crown_exp", "hydra_plugins"}
    assert not any(name.endswith(".pyc") for name in held)
    own = tuple(f"conf/{group}/" for group in OWN_GROUPS)
    conf = {f"conf/{path}": data for path, data in written(ROOT / "conf").items()}
    framework = {path for path in conf if not path.startswith(own)}
    assert {name for name in held if name.startswith("crown_exp/conf/")} == {
        f"crown_exp/{path}" for path in framework
    }
    templates = "crown_exp/cli/templates/"
    material = {path: data for path, data in conf.items() if path not in framework}
    experiments = {
        f"experiments/{path.name}": path.read_bytes()
        for path in (ROOT / "experiments").glob("*.py")
    }
    example = {".env.example": (ROOT / ".env.example").read_bytes()}
    assert {
        name.removeprefix(templates): data
        for name, data in held.items()
        if name.startswith(templates)
    } == material | experiments | example


def test_what_runs_is_the_wheel_s_and_no_experiments_are_installed(
    venv_bin: Path, tmp_path: Path
) -> None:
    script = (
        "import crown_exp, hydra_plugins.crown_launcher as plugin\n"
        "from importlib.util import find_spec\n"
        "print(crown_exp.__file__, plugin.__file__, find_spec('experiments'), sep='\\n')"
    )
    ours, plugin, experiments = Shell(venv_bin, tmp_path).run("python", "-c", script).stdout.split()
    assert Path(ours).is_relative_to(venv_bin.parent)
    assert Path(plugin).is_relative_to(venv_bin.parent)
    assert experiments == "None"


def test_a_model_of_one_s_own_runs_by_either_name_and_from_any_directory(project: Shell) -> None:
    before = written(project.directory).keys()
    ran = project.run("crown-exp", DIGITS, "model=mine", "limits.steps=5")
    assert "completed after 5 steps" in ran.stderr
    ran = project.at("conf/model").run(
        "python", "-m", "crown_exp", DIGITS, "model=mine", "model.hidden=8", "limits.steps=5"
    )
    assert "completed after 5 steps" in ran.stderr
    runs = list((project.directory / ".crown" / "store" / "runs").iterdir())
    assert all((run / "result.json").is_file() for run in runs)
    configs = {(run / "config.yaml").read_text() for run in runs}
    assert sorted("hidden: 8\n" in text for text in configs) == [False, True]
    added = written(project.directory).keys() - before
    assert {path for path in added if ".crown/" not in path and "__pycache__" not in path} == set()


def test_the_tests_of_the_project_take_the_model_along(project: Shell) -> None:
    ran = project.run("python", "-m", "pytest", "-v", "-p", "no:cacheprovider")
    assert "[model=mine] PASSED" in ran.stdout
    assert "3 passed" in ran.stdout


def test_the_model_s_keys_are_explained(project: Shell) -> None:
    told = project.run("crown-exp", "explain", "model.hidden", DIGITS, "model=mine").stdout
    assert told.startswith("model.hidden = 48\n  type     int\n")
    assert "experiments/mine.py:9" in told
    assert "48  conf/model/mine.yaml:2" in told


@pytest.mark.parametrize(
    ("typo", "said"),
    [
        ("model.hiden=8", "model.hiden: no such key; did you mean hidden? (experiments/mine.py:"),
        ("model.hidden=many", "model.hidden: expected an int, got 'many'"),
        ("model=mien", "model=mien: group model has no option 'mien'; did you mean mine"),
    ],
)
def test_a_typo_in_it_is_one_line(project: Shell, typo: str, said: str) -> None:
    chosen = () if typo.startswith("model=") else ("model=mine",)
    ran = project.run("python", "-m", "crown_exp", DIGITS, *chosen, typo, code=2)
    assert ran.stderr.startswith(said)
    assert (ran.stdout, ran.stderr.count("\n")) == ("", 1)


def test_an_editable_install_finds_all_in_the_checkout(tmp_path: Path) -> None:
    venv_bin = new_environment(tmp_path / "venv", "--editable", str(ROOT))
    shell = Shell(venv_bin, tmp_path / "work")
    shell.directory.mkdir()
    where = shell.run("python", "-c", "import crown_exp; print(crown_exp.__file__)").stdout
    assert Path(where.strip()) == ROOT / "crown_exp" / "__init__.py"
    assert not any(path.name == "crown_exp" for path in (tmp_path / "venv").rglob("*"))
    shell.run("crown-exp", "init")
    assert written(shell.directory) == project_files("digits_cnn", "work")
    told = shell.run("crown-exp", "explain", "model.width", DIGITS).stdout
    assert "16  conf/model/cnn.yaml:" in told
