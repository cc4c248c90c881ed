"""The shipped tree: every file composes, every preset is sound, and no key changes unnoticed.

Configs and finished runs hold the framework's keys, so a key that is renamed, or gets another default, is a
change for users. `python tests/architecture/test_config_snapshot.py` writes the snapshot anew.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from crown_exp.config import schema
from crown_exp.config.compose import load, new_loader
from crown_exp.config.diagnose import sound
from crown_exp.config.kinds import kind_of_type
from crown_exp.config.project import builtin_conf
from crown_exp.config.values import shown
from crown_exp.errors import ConfigError

CONF = builtin_conf()
SNAPSHOT = Path(__file__).with_name("config_keys.txt")
OPTIONS = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.rglob("*.yaml"))


def keys() -> str:
    """Every framework key: path, type, default, and whether it decides a result."""
    lines = [
        f"{key.path}: {kind_of_type(key.type)} = {shown(key.default)}{' decides' * key.decides}"
        for key in schema.leaves()
    ]
    return "\n".join(lines) + "\n"


def test_the_frameworks_keys_are_those_of_the_snapshot() -> None:
    assert keys() == SNAPSHOT.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF.parent)
    monkeypatch.syspath_prepend(str(CONF.parent))


def test_all_yaml_files_are_groups_options_but_the_primary_one() -> None:
    assert [str(path) for path in OPTIONS if len(path.parts) == 1] == ["config"]
    assert {path.parts[0] for path in OPTIONS if len(path.parts) > 1} == {
        *schema.TARGET_GROUPS, *schema.FRAMEWORK_GROUPS, "experiment",
    }  # fmt: skip


@pytest.mark.parametrize("option", [path for path in OPTIONS if len(path.parts) == 2], ids=str)
def test_every_option_composes_over_the_defaults(option: Path) -> None:
    group, name = option.parts
    cfg = load(new_loader(), [f"{'+' if group == 'experiment' else ''}{group}={name}"])
    assert cfg.hydra.runtime.choices[group] == name


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_is_sound(path: Path) -> None:
    composition, checked = sound(new_loader(), [f"+experiment={path.stem}"])
    assert checked.target.kind == "function"
    assert set(composition.config) >= set(checked.bound)


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
@pytest.mark.parametrize("group", ["device", "tracker", "optimizer", "model"])
def test_every_preset_goes_with_every_option_of_a_group(path: Path, group: str) -> None:
    """Of a group that its task does not take, with none: a choice that goes nowhere is a mistake."""
    loader = new_loader()
    preset = f"+experiment={path.stem}"
    _, checked = sound(loader, [preset])
    foreign = group in schema.TARGET_GROUPS and group not in {"task", *checked.bound}
    for option in loader.repository.get_group_options(group):
        with pytest.raises(ConfigError, match="does not take") if foreign else nullcontext():
            sound(loader, [preset, f"{group}={option}"])


if __name__ == "__main__":
    SNAPSHOT.write_text(keys(), encoding="utf-8")
