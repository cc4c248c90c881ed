from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from io import BytesIO
from pathlib import Path

import pytest

from crown_exp.compute.wheel import PACKAGE, Wheel, own_wheel
from crown_exp.errors import CrownError

ROOT = PACKAGE.parent


def unpacked(wheel: Wheel, folder: Path) -> Path:
    with zipfile.ZipFile(BytesIO(wheel.pack())) as packed:
        packed.extractall(folder)
    return folder


def contents(packed: zipfile.ZipFile) -> dict[str, bytes]:
    return {
        name: packed.read(name) for name in packed.namelist() if ".dist-info/" not in name
    }  # fmt: skip


def test_a_checkout_gives_what_hatchling_would_pack(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    wheel = own_wheel()
    assert wheel.name == built.name
    with zipfile.ZipFile(built) as theirs, zipfile.ZipFile(BytesIO(wheel.pack())) as ours:
        assert contents(ours) == contents(theirs)
        said = {name: ours.read(name).decode() for name in ours.namelist()}
        told = {name: theirs.read(name).decode() for name in theirs.namelist() if name in said}
    info = next(name.partition("/")[0] for name in said if name.endswith("METADATA"))
    assert said[f"{info}/entry_points.txt"].strip() == told[f"{info}/entry_points.txt"].strip()


def test_pip_takes_it(tmp_path: Path) -> None:
    """Its metadata and its RECORD are in order."""
    wheel = own_wheel()
    (tmp_path / wheel.name).write_bytes(wheel.pack())
    command = ["-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "there")]
    subprocess.run(
        [sys.executable, *command, str(tmp_path / wheel.name)], check=True, capture_output=True
    )
    (info,) = (tmp_path / "there").glob("crown_exp-*.dist-info")
    found = PathDistribution(info)
    assert found.version == wheel.name.split("-")[1]
    assert any(line.startswith("torch") for line in found.requires or [])
    assert any("obstore" in line and "extra" in line for line in found.requires or [])
    assert own_wheel(tmp_path / "there/crown_exp").files.keys() == wheel.files.keys()


def test_an_installed_one_gives_the_same_again(tmp_path: Path) -> None:
    """A job may launch jobs: what was unpacked is packed again, caches aside."""
    wheel = own_wheel()
    there = unpacked(wheel, tmp_path)
    (there / "crown_exp/__pycache__").mkdir()
    (there / "crown_exp/__pycache__/cli.cpython-311.pyc").write_bytes(b"1")
    again = own_wheel(there / "crown_exp")
    assert again == Wheel(wheel.name, dict(sorted(wheel.files.items())))
    assert own_wheel(unpacked(again, tmp_path / "b") / "crown_exp").pack() == again.pack()


def test_what_was_unpacked_works_from_a_path(tmp_path: Path) -> None:
    there = unpacked(own_wheel(), tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import crown_exp, hydra_plugins.crown_launcher\n"
        "from crown_exp.config.project import builtin_conf\n"
        "print(crown_exp.__file__, builtin_conf())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(there)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [
        str(there / "crown_exp/__init__.py"), str(there / "crown_exp/conf")
    ]  # fmt: skip


def test_an_installation_that_is_not_whole_is_told(tmp_path: Path) -> None:
    there = unpacked(own_wheel(), tmp_path)
    (there / "crown_exp/errors.py").unlink()
    with pytest.raises(CrownError, match=r"is not whole: .*errors\.py.*install it again"):
        own_wheel(there / "crown_exp")
    next(there.glob("*.dist-info")).rename(there / "elsewhere")
    with pytest.raises(CrownError, match=r"is not whole: 0 records; install it again"):
        own_wheel(there / "crown_exp")
