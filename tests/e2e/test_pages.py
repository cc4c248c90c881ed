"""The pages of the documentation are carried out: their files written, their commands typed, as they stand.

```python, ```yaml: a file, named by the comment on its first line.
```console: `$ command`, and lines of its output. Numbers are compared, to 5 %; ids and times are not.
```sh: commands that succeed.
```diff: a mistake, made in the page's first file of Python; the last command is typed again, and
```text below it is what that says before it fails. If ```console is below it, it was no mistake.
Any other ```text is prose: nothing is carried out.
"""

from __future__ import annotations

import contextlib
import math
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import CommandLine, Said
from tests.pages import ROOT, Block, Shell, blocks_of, changed, compare
from tests.s3.buckets import Bucket
from tests.s3.servers import Moto

TASKS = (
    "README", "accumulation", "clipping", "ema", "evaluation", "gan", "leaving_early", "lr_schedule",
    "no_loop", "precision", "state", "streams", "two_loops", "whole_config", "zip",
)  # fmt: skip
OTHERS = ("data", "devices", "reinforcement_learning", "resume", "s3", "verify")
PAGES = [f"tasks/{name}" for name in TASKS] + [*OTHERS]
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
VARYING = re.compile(r"\br\d{6}-\w{6}\b|\b\d+:\d\d(?::\d\d)?\b|\b[\d.]+/s\b|\bsaved in [\d.]+ s")


def test_every_page_is_known() -> None:
    assert sorted(path.stem for path in (ROOT / "docs/tasks").glob("*.md")) == sorted(TASKS)


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs/tasks/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == {*TASKS} - {"README"}


@pytest.mark.parametrize("name", PAGES)
def test_its_links_lead_somewhere(name: str) -> None:
    page = ROOT / f"docs/{name}.md"
    if not page.exists() and name in OTHERS:
        pytest.skip("not written yet")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@dataclass
class Reader:
    """Someone who does what a page says, in an empty project."""

    lab: CommandLine
    written: dict[str, str] = field(default_factory=dict)
    last: str = ""
    code: int = 0

    def carry_out(self, blocks: list[Block]) -> None:
        """From top to bottom."""
        rest = iter(blocks)
        for block in rest:
            match block.language:
                case "yaml" | "python":
                    self.write(block)
                case "sh":
                    for command in block.text.splitlines():
                        code, printed = self.type(command)
                        assert code == 0, f"{block.where}: {command}\n{printed}"
                case "console":
                    compare(block, self.type, missing)
                case "diff":
                    self.change(block, next(rest))
                case "text":
                    pass
                case other:
                    pytest.fail(f"{block.where}: ```{other} is not carried out; prose is ```text")

    def write(self, block: Block) -> None:
        """Make it the file that it says to be."""
        assert block.path, f"{block.where}: begins without a comment that names its file"
        self.written[block.path] = block.body
        self.lab.write(block.path, block.body)

    def type(self, command: str) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        match shlex.split(command):
            case ["echo", "$?"]:
                return 0, f"{self.code}\n"
            case ["python", "-m", "crown_exp", *arguments] | ["crown-exp", *arguments]:
                said = self.crown(arguments)
                self.code = said.code
                self.last = command if "=" in arguments[0] else self.last
                return said.code, said.out + said.err
            case ["python", script]:
                self.lab.capture.readouterr()
                runpy.run_path(script, run_name="__main__")
                return 0, "".join(self.lab.capture.readouterr())
        return Shell(self.lab.root, {"HOME": str(self.lab.root)}).type(command)

    def crown(self, arguments: list[str]) -> Said:
        """Ours, in this process; the modules are those of the files as they are now."""
        forget_experiments()
        if "=" in arguments[0]:
            own = [word for word in ("device=cpu", "device.threads=1") if word not in arguments]
            arguments = [*arguments, *own]
        return self.lab(*arguments)

    def change(self, block: Block, following: Block) -> None:
        """Make a change, type the last command again, or the one below; take the change back."""
        path = next(path for path in self.written if path.endswith(".py"))
        text = self.written[path]
        self.lab.write(path, changed(text, block))
        if following.language == "console":
            compare(following, self.type, missing)
        else:
            assert following.language == "text", f"{block.where}: what does that change?"
            code, printed = self.type(self.last)
            assert code != 0, f"{block.where}: {self.last} completes\n{printed}"
            lacking = missing(printed, following.text)
            assert not lacking, f"{following.where}: not printed: {lacking}\n{printed}"
        self.lab.write(path, text)


def missing(printed: str, shown: str) -> str:
    """The lines shown that were not printed; numbers may differ by 5 %."""
    lines = [skeleton(line) for line in printed.splitlines()]
    return "\n".join(
        line for line in shown.splitlines()
        if not any(text == there and near(numbers, found)
                   for text, numbers in [skeleton(line)] for there, found in lines)
    )  # fmt: skip


def skeleton(line: str) -> tuple[str, list[float]]:
    """A line without what varies, and its numbers."""
    line = VARYING.sub("…", " ".join(line.split()))
    return NUMBER.sub("N", line), [float(it.replace(",", "")) for it in NUMBER.findall(line)]


def near(shown: list[float], found: list[float]) -> bool:
    return all(math.isclose(*pair, rel_tol=0.05) for pair in zip(shown, found, strict=True))


def forget_experiments() -> None:
    """What a module of the user's was, so that it is read again."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        del sys.modules[name]
    with contextlib.suppress(FileNotFoundError):
        for cached in Path("experiments/__pycache__").iterdir():
            cached.unlink()  # a change within a second, of equal size, would go unnoticed


@pytest.fixture
def reader(crown: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Reader]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.crown_exp]\n")
    monkeypatch.chdir(project)
    before = {name: it for name, it in sys.modules.items() if name.split(".")[0] == "experiments"}
    yield Reader(CommandLine(project, crown.capture))
    forget_experiments()
    sys.modules.update(before)


@pytest.fixture
def my_bucket(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader of docs/s3.md has."""
    Bucket("my-bucket", moto, moto).client.create_bucket(Bucket="my-bucket")
    for name, value in Bucket("my-bucket", moto, moto).environment("crown").items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_as_written(name: str, reader: Reader, request: pytest.FixtureRequest) -> None:
    if name == "s3":
        request.getfixturevalue("my_bucket")
    page = ROOT / f"docs/{name}.md"
    if not page.exists() and name in OTHERS:
        pytest.skip("not written yet")
    reader.carry_out(blocks_of(page))
