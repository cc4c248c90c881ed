"""Pages of the documentation as tests see them: their fenced blocks, carried out as a reader would.

A block whose first line is a comment with a path (`# conf/task/mine.yaml`) is, or shows part of, that file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import crown_exp

ROOT = Path(crown_exp.__file__).parents[1]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+\.(?:py|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, its language, its first line there, its text."""

    page: str
    language: str
    line: int
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def path(self) -> str:
        """The file it says to be (part of)."""
        found = NAMED.match(self.text)
        return found[1] if found else ""

    @property
    def body(self) -> str:
        """Its text without the line that names the file."""
        return self.text.partition("\n")[2] if self.path else self.text


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    found = [
        Block(name, block[1], text.count("\n", 0, block.start()) + 1, block[2])
        for block in FENCED.finditer(text)
    ]
    fences = len(re.findall(r"^```", text, re.MULTILINE))
    assert fences == 2 * len(found), f"{name}: a fence without its other end"
    return found


def dialogue(block: Block) -> list[tuple[str, str]]:
    """Each command of a block of `$ command` lines, and what is shown below it."""
    assert block.text.startswith("$ "), f"{block.where}: begins without `$ `"
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block.text, re.MULTILINE)


LONG = re.compile(r"(?<=\ds) \(\d+:\d\d:\d\d\)")
"""What pytest adds to a time of more than a minute."""


def masked(text: str) -> set[str]:
    """The lines of a text, with ids, ages and numbers made equal, whatever the width of its columns."""
    return {
        re.sub(r"\d[\d.:]*(?: (?:s|min)\b)?|just now", "N", re.sub(r"\br\d{6}-\w{6}\b", "ID", line))
        for line in (" ".join(line.split()) for line in LONG.sub("", text).splitlines())
    }


def missing(printed: str, shown: str) -> str:
    """The lines shown that were not printed, ids and numbers aside."""
    return "\n".join(masked(shown) - masked(printed))


def compare(
    block: Block,
    type_: Callable[[str], tuple[int, str]],
    holds: Callable[[str, str], str] = missing,
) -> None:
    """The output of every command holds the lines shown below it.

    type_: carries a command out; its exit code and what it printed. holds: what is shown and not printed.
    A command that fails must be followed by `$ echo $?`, with its code below.
    """
    said = dialogue(block)
    for index, (command, shown) in enumerate(said):
        code, printed = type_(command)
        lacking = holds(printed, shown)
        assert not lacking, f"{block.where}: {command}\nnot printed: {lacking}\n{printed}"
        told = index + 1 < len(said) and said[index + 1][0] == "echo $?"
        assert told or code == 0, f"{block.where}: {command}\n{printed}"
        if command == "echo $?":
            assert printed.split() == shown.split(), f"{block.where}\n{printed}"


def changed(text: str, change: Block) -> str:
    """A text after a change, a block of ```diff: lines that stay, - go, + come; `...` between two places."""
    for hunk in re.split(r"^\.\.\.\n", change.body, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        assert all(line[0] in "-+ " for line in lines), f"{change.where}: is no diff"
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in ("- ", "+ "))
        assert text.count(old) == 1, f"{change.where}: does not apply"
        text = text.replace(old, new)
    return text


class Shell:
    """A shell: each command begins where the last one left off.

    What is installed stays as it is, and a GPU is not seen: the output shown is that of a machine without.
    """

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        self.directory, self.code = directory, 0
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CROWN_", "PYTHON"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self.env = kept | {"PATH": path, "CUDA_VISIBLE_DEVICES": ""} | variables

    def type(self, command: str) -> tuple[int, str]:
        """Run a command; its exit code and what it printed."""
        if "pip install" in command:
            command += " --dry-run --no-deps --no-index --no-build-isolation --quiet"
        script = f"(exit {self.code})\n{command}\ncode=$?; echo; pwd; exit $code"
        ran = subprocess.run(
            ["bash", "-c", script], cwd=self.directory, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _, directory = ran.stdout.rstrip("\n").rpartition("\n")
        self.code, self.directory = ran.returncode, Path(directory)
        return self.code, output

    def type_all(self, block: Block) -> None:
        """Every line of a block of commands must succeed."""
        for command in block.text.splitlines():
            code, output = self.type(command)
            assert code == 0, f"{block.where}: {command}\n{output}"

    def compare(self, block: Block) -> None:
        """See `compare`."""
        compare(block, self.type)

    def write(self, block: Block) -> None:
        """Make a block the file it says to be."""
        path = self.directory / block.path
        assert path.parent.is_dir(), f"{block.where}: no such folder here"
        path.write_text(block.body, encoding="utf-8")
