"""A mistyped name is answered with the right one.

Of every name of the shipped tree (framework keys, sections, groups, options, the parameters of what the shipped
configs build) every typo of one edit is made, and asked about as the command line does: keys by `check` on the
whole composed config, groups and options by `override_problems` on Hydra's search path. A sample goes through
the command line itself. Both are judged alike: one line, whose first guess is the right name.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from crown_exp.__main__ import guarded
from crown_exp.config import schema
from crown_exp.config.check import check
from crown_exp.config.compose import CONFIG_NAME, Composition, new_loader
from crown_exp.config.diagnose import sound
from crown_exp.config.files import Walk
from crown_exp.config.nearest import edits
from crown_exp.config.overrides import override_problems, read
from crown_exp.config.project import builtin_conf
from crown_exp.config.targets import find_target
from crown_exp.config.tree import Tree
from crown_exp.errors import ConfigError

DIGITS = "+experiment=digits_cnn"
OTHERS = ("optimizer=sgd", "model=mlp")
"""The options of groups that the preset does not choose."""
LETTERS = 4
"""How many letters stand in for each one of a name, drawn from a to z and _."""

ENOUGH = 0.95


@dataclass(frozen=True)
class Name:
    """A name of the tree, the names beside it, and how a command line says it.

    words: makes the overrides that use the name, or a typo of it. other: what else must be chosen.
    """

    kind: str
    name: str
    beside: frozenset[str]
    words: Callable[[str], str]
    other: str = ""


def typos(name: str, letters: random.Random) -> list[str]:
    """Every name that one edit makes of it: dropped, doubled, swapped, replaced (by a few letters)."""
    alphabet = "abcdefghijklmnopqrstuvwxyz_"
    made = [name[:at] + name[at + 1 :] for at in range(len(name))]
    made += [name[:at] + name[at] + name[at:] for at in range(len(name))]
    made += [name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(len(name) - 1)]
    for at in range(len(name)):
        made += [
            name[:at] + letter + name[at + 1 :] for letter in letters.sample(alphabet, LETTERS)
        ]
    return [typo for typo in dict.fromkeys(made) if re.fullmatch(r"[A-Za-z_]\w*", typo)]


def fair(typo: str, name: Name) -> bool:
    """Whether only one answer is right: the typo is no name itself, nor as near to another one."""
    return typo not in name.beside and all(
        edits(typo, other) > edits(typo, name.name) for other in name.beside - {name.name}
    )


# --- the shipped tree -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def in_the_checkout() -> Iterator[None]:
    """The tree under test is the shipped one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(builtin_conf().parent)
        patch.syspath_prepend(str(builtin_conf().parent))
        yield


@cache
def shipped(other: str = "") -> Composition:
    return sound(new_loader(), [DIGITS, *filter(None, [other])])[0]


@cache
def tree() -> Tree:
    return Tree(new_loader())


def framework_keys() -> Iterator[Name]:
    """`seed`, `limits`, `limits.steps`, …"""
    defaults = schema.defaults()
    task = find_target(shipped().config["task"]["_target_"])
    top = frozenset(
        [*defaults, *schema.TARGET_GROUPS, *tree().groups(), *list(task.parameters)[1:]]
    )
    for key in schema.leaves():
        section, _, name = key.path.rpartition(".")
        beside = frozenset(defaults[section]) if section else top
        at = f"{section}." if section else ""
        yield Name("key", name, beside, lambda typo, at=at: f"{at}{typo}=1")
    for section in schema.SECTIONS:
        yield Name("section", section, top, lambda typo: f"{typo}.x=1")


def parameters() -> Iterator[Name]:
    """What the task and every target of the shipped groups take: `task.steps`, `optimizer.lr`, …"""
    for other in ("", *OTHERS):
        for group, node in shipped(other).config.items():
            if not other.startswith(group) and other:
                continue
            if isinstance(node, dict) and "_target_" in node:
                names = list(find_target(node["_target_"]).parameters)
                handed = {names[0], *schema.TARGET_GROUPS} if group == "task" else set()
                beside = frozenset(names) - handed
                for name in sorted(beside):
                    yield Name(
                        "parameter", name, beside, lambda typo, at=group: f"{at}.{typo}=1", other
                    )


def groups_and_options() -> Iterator[Name]:
    """`optimizer=…`, `+experiment=…`, and each option of each group."""
    top = frozenset([*schema.defaults(), *tree().groups()])
    for group in tree().groups():
        plus = "+" if group == "experiment" else ""
        options = tree().options(group)
        yield Name("group", group, top, lambda typo, p=plus, o=options[0]: f"{p}{typo}={o}")
        for option in options:
            at = f"{plus}{group}"
            yield Name("option", option, frozenset(options), lambda typo, at=at: f"{at}={typo}")


def all_typos() -> list[tuple[Name, str]]:
    """Every fair typo of every name."""
    letters = random.Random(0)
    names = [*framework_keys(), *parameters(), *groups_and_options()]
    return [
        (name, typo) for name in names for typo in typos(name.name, letters) if fair(typo, name)
    ]


# --- what is answered -----------------------------------------------------------------------------------


def answered(name: Name, typo: str) -> list[str]:
    """The problems that the command line would find in a command with this typo."""
    override = name.words(typo)
    if name.kind in ("group", "option"):
        loader = new_loader_once()
        (parsed,), unreadable = read(loader, [override])
        assert not unreadable
        return [str(item) for item in override_problems(loader, tree(), parsed, listed())]
    path, _, value = override.partition("=")
    *sections, last = path.split(".")
    composed = shipped(name.other).config
    config: dict[str, Any] = dict(composed)
    node = config
    for section in sections:
        node[section] = dict(node.get(section, {}))
        node = node[section]
    node[last] = value
    try:
        check(Composition(config, shipped(name.other).choices, ()), tree().groups())
    except ConfigError as error:
        return list(map(str, error.problems))
    return []


@cache
def new_loader_once() -> Any:
    return new_loader()


@cache
def listed() -> dict[str, str]:
    walk = Walk(tree(), [])
    walk.follow(CONFIG_NAME)
    return walk.listed


def first_guess(line: str) -> str:
    """The first name that a line offers."""
    found = re.search(r"did you mean ([^\s,?]+)", line)
    return found[1].removeprefix("task.") if found else ""


def is_right(lines: list[str], name: Name) -> bool:
    """What both ways are held to: one line, and its first guess is the name that was meant."""
    return len(lines) == 1 and first_guess(lines[0]) == name.name


def test_a_typo_is_answered_with_the_right_name_first(
    record_testsuite_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cases = all_typos()
    missed = []
    for name, typo in cases:
        lines = answered(name, typo)
        if not is_right(lines, name):
            missed.append(f"{name.kind} {name.name} typed {typo}: {lines}")
    right = len(cases) - len(missed)
    with capsys.disabled():
        print(f"\n{right} of {len(cases)} typos are answered with the right name first", end=" ")
    record_testsuite_property("typos", f"{right} of {len(cases)}")
    assert len(cases) > 2000
    assert right >= ENOUGH * len(cases), "\n".join(missed[:40])


@pytest.mark.parametrize("sample", [40, pytest.param(200, marks=pytest.mark.full)])
def test_a_sample_through_the_command_line(
    sample: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
    missed = []
    for name, typo in random.Random(1).sample(all_typos(), sample):
        words = [*filter(None, [name.other]), name.words(typo)]
        code = guarded(words if name.words("").startswith("+") else [DIGITS, *words])
        lines = capsys.readouterr().err.splitlines()
        assert code == 2, words
        assert is_right(answered(name, typo), name) == is_right(lines, name), (words, lines)
        if not is_right(lines, name):
            missed.append(f"{words}: {code} {lines}")
    with capsys.disabled():
        print(f"\n{sample - len(missed)} of {sample} through the command line", end=" ")
    assert sample - len(missed) >= ENOUGH * sample, "\n".join(missed)
    assert not (tmp_path / "home").exists()


def test_neither_answer_needs_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from crown_exp.__main__ import guarded\n"
        "assert guarded(sys.argv[1:]) == 2\n"
        "assert not {'torch', 'numpy', 'wandb', 'sky', 'sqlalchemy'} & set(sys.modules), 'imported'"
    )
    for words in (["optimizer.lrr=1"], ["modle=cnn"], ["model=cn"], ["limts.steps=1"]):
        ran = subprocess.run(
            [sys.executable, "-c", code, DIGITS, *words], capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert len(ran.stderr.splitlines()) == 1
