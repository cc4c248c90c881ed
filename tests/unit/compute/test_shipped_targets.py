"""The compute targets that are shipped, and one of a user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from crown_exp.__main__ import guarded
from crown_exp.compute.base import Target
from crown_exp.compute.target import target_of
from crown_exp.config.compose import load, new_loader, plain
from crown_exp.config.diagnose import sound
from crown_exp.config.project import builtin_conf
from crown_exp.errors import ConfigError

CONF = builtin_conf()
NAMES = sorted(path.stem for path in (CONF / "compute").glob("*.yaml"))
GPUS = {
    "l4_spot": ("L4:1",),
    "a100": ("A100:1", "A100-80GB:1"),
    "a100_spot": ("A100:1", "A100-80GB:1"),
    "a100_80gb_spot": ("A100-80GB:1",),
    "h100": ("H100:1",),
    "h100_spot": ("H100:1",),
}
CLOUD = [*GPUS, "cpu"]
MINE = """# Ours
executor: skypilot
accelerators: [L4:2, A10G:4]
infra: [aws/us-east-1]
name: mine
"""


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF.parent)
    monkeypatch.syspath_prepend(str(CONF.parent))


def composed(*typed: str) -> dict[str, Any]:
    cfg = load(new_loader(), list(typed))
    composition, unresolved = plain(cfg, cfg.hydra)
    assert not unresolved
    return dict(composition.config)


def target(*typed: str) -> Target:
    return target_of(composed(*typed)["compute"])


def test_they_are_those_of_the_design() -> None:
    assert sorted([*CLOUD, "kubernetes", "local", "slurm"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_sound_with_a_preset_and_bears_its_name(name: str) -> None:
    composition, _ = sound(new_loader(), ["+experiment=digits_cnn", f"compute={name}"])
    read = target_of(composition.config["compute"])
    assert read.name == name
    assert read.spot is name.endswith("_spot")
    assert read.autostop_minutes > 0
    assert read.is_here is (name == "local")


@pytest.mark.parametrize("name", CLOUD)
def test_those_of_clouds_ask_for_one_gpu_and_have_a_guard(name: str) -> None:
    read = target(f"compute={name}")
    assert (read.executor, read.accelerators) == ("skypilot", GPUS.get(name, ()))
    assert read.managed and not read.shared and read.environment == "lock"
    assert read.cpus and read.memory_gb and read.disk_gb and read.max_usd_per_hour


def test_those_of_ones_own_clusters() -> None:
    assert target("compute=slurm") == Target(
        name="slurm", executor="slurm", shared=True, environment="image", start_deadline=math.inf
    )
    assert target("compute=kubernetes").infra == ("kubernetes",)
    assert "UNTESTED" in (CONF / "compute/kubernetes.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is(name: str) -> None:
    if name != "local":
        assert (CONF / f"compute/{name}.yaml").read_text().startswith("# ")


def test_keys_of_a_target_are_ordinary_keys() -> None:
    read = target("compute=a100_spot", "compute.nodes=2", "compute.accelerators=[H100:8]")
    assert (read.nodes, read.accelerators, read.spot) == (2, ("H100:8",), True)


def test_it_cannot_lose_its_auto_stop() -> None:
    for value in ("null", "0", "-1"):
        with pytest.raises(ConfigError, match=r"compute\.autostop_minutes: expected"):
            sound(
                new_loader(),
                ["+experiment=digits_cnn", "compute=a100", f"compute.autostop_minutes={value}"],
            )


def test_the_help_page_and_explain_know_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["--help"]) == 0
    page = capsys.readouterr().out
    line = next(line for line in page.splitlines() if line.startswith("compute: "))
    assert line.removeprefix("compute: ").split(", ") == NAMES
    assert guarded(["explain", "compute.accelerators", "compute=a100_spot"]) == 0
    told = capsys.readouterr().out
    assert "conf/compute/a100_spot.yaml:" in told and "A100-80GB:1" in told


def test_one_of_a_users_own_is_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf/compute").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.crown_exp]\n")
    (tmp_path / "conf/compute/mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    assert guarded(["--help"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("compute: "))
    assert {"mine", "a100_spot"} <= set(line.removeprefix("compute: ").split(", "))
    assert guarded(["explain", "compute.infra", "compute=mine"]) == 0
    assert "conf/compute/mine.yaml:4" in capsys.readouterr().out


def test_they_can_be_swept() -> None:
    loader = new_loader()
    parsed = OverridesParser.create(loader).parse_overrides(["compute=local,a100_spot", "seed=1,2"])
    ((*jobs,),) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    swept = [(made["compute"]["name"], made["seed"]) for made in (composed(*job) for job in jobs)]
    assert swept == [("local", 1), ("local", 2), ("a100_spot", 1), ("a100_spot", 2)]
