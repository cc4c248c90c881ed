"""The pages tell what is there: links lead somewhere, every word, group and key is told, nothing is stale."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crown_exp.cli import WORDS
from crown_exp.config import schema
from crown_exp.config.project import builtin_conf

ROOT = builtin_conf().parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    heads = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    links = ["".join(found) for found in LINK.findall(text)]
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target)


def test_the_decisions_are_numbered_without_a_gap_and_their_titles_say_so() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name.partition("-")[0]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for number, page in zip(numbers, pages, strict=True):
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_command_line_is_told(word: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert re.search(rf"`{word}`|crown-exp {word}\b", text)


def test_every_key_group_and_option_is_on_the_page_of_the_configuration() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    keys = {key.path for key in schema.leaves()}
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"}
    options = {path.stem for group in groups for path in (ROOT / "conf" / group).rglob("*.yaml")}
    assert [name for name in sorted(keys | groups | options) if f"`{name}`" not in text] == []


def test_the_page_of_the_configuration_is_what_its_generator_writes() -> None:
    script = "from dev.configuration_page import page; print(page(), end='')"
    made = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == made.stdout, "type: python -m dev.configuration_page"
