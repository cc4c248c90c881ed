"""The environment of this process as a lock, from which another machine makes its own.

A lock is a requirements file of pip's, in two halves. What nothing else asks for is required; the rest, after
a line `# constraints`, only says which version it is to be if another asks for it. So what a Mac has because
something there needs it (appnope) breaks no Linux, and what only Linux needs (torch's CUDA libraries) comes
there by itself. Versions are exact, without a local part (`2.13.0+cpu`), which no index has: torch on a GPU
machine is to be the one for GPUs.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CONSTRAINTS = "# constraints"

_NEVER = frozenset({"pip", "setuptools", "wheel", "crown-exp"})
"""What every environment has, and crown_exp itself, whose wheel travels."""

_FOR_GPUS = ("nvidia-", "cuda-", "triton", "pytorch-triton")
_LINUX = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)""")


@dataclass(frozen=True)
class Lock:
    """text: the file. left_out: (package, why) of what is installed here and cannot be there, by name."""

    text: str
    left_out: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """sha256 of the text, hexadecimal: equal for equal packages and Python 3.x, on any platform."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def make_lock(root: Path, distributions: Iterable[Distribution]) -> Lock:
    """The lock of what is installed. root: of the project, whose own files travel as they are.

    Of two packages of one name the first counts. A package that was installed from a repository's commit or
    from the web is required from there; one from a folder or file of this machine is left out, and what it
    asks for is required.
    """
    packages: dict[str, _Package] = {}
    for found in distributions:
        package = _read(found)
        if package is not None:
            packages.setdefault(package.name, package)
    left_out = {name: why for name, package in packages.items() if (why := package.why_not(root))}
    stays = {name for name in packages if name in _NEVER or packages[name].line is None}
    asked = _Asked.of(packages, stays)
    gpu = {name for name in asked.below("torch") if name.startswith(_FOR_GPUS)}
    usual = packages.keys() - stays - (gpu - asked.requested)
    roots = _roots(asked, usual)
    lines = [packages[name].line or "" for name in sorted(roots)]
    rest = [f"{name}=={packages[name].version}" for name in sorted(usual - roots)]
    head = f"# python {sys.version_info[0]}.{sys.version_info[1]}"
    text = "".join(f"{line}\n" for line in (head, *lines, CONSTRAINTS, *rest))
    return Lock(text, tuple(sorted(left_out.items())))


@dataclass
class _Package:
    """line: what requires it; None if it is of this machine only. source: where from, if not an index."""

    name: str
    version: str
    requires: list[Requirement]
    requested: bool
    line: str | None
    source: str

    def why_not(self, root: Path) -> str | None:
        """Why it is left out, if the user is to know."""
        if self.line is not None or self.name in _NEVER or _is_below(self.source, root):
            return None
        return f"installed from {self.source}, which is only here; put it into the project or on an index"


@dataclass
class _Asked:
    """Who asks for whom, of those that are installed.

    required: needed on Linux by a package that is in the lock. on_linux: named by anyone in a way that counts
    on Linux, with extras. named: named by anyone. requested: installed by name. edges: all names by name.
    """

    required: set[str] = field(default_factory=set)
    on_linux: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    requested: set[str] = field(default_factory=set)
    edges: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, packages: Mapping[str, _Package], stays: set[str]) -> _Asked:
        asked = cls(requested={name for name, package in packages.items() if package.requested})
        for package in packages.values():
            for name, always, ever in _needs(package, packages):
                asked.named.add(name)
                asked.edges.setdefault(package.name, set()).add(name)
                if ever:
                    asked.on_linux.add(name)
                if always and package.name not in stays and name != package.name:
                    asked.required.add(name)
        return asked

    def below(self, *names: str) -> set[str]:
        """All that the packages ask for, directly or not."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            new = self.edges.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found


def _roots(asked: _Asked, usual: set[str]) -> set[str]:
    """The packages to require; all others come because one of them asks for them."""
    foreign = asked.named - asked.on_linux - asked.requested  # only needed on a Mac, or on Windows
    roots = {
        name for name in usual if name in asked.requested or name not in asked.required | foreign
    }
    rest = sorted(usual - foreign - roots - asked.below(*roots))
    for name in rest:  # packages that ask for each other
        if name not in asked.below(*roots):
            roots.add(name)
    return roots


def _needs(package: _Package, packages: Mapping[str, _Package]) -> Iterator[tuple[str, bool, bool]]:
    """(name, needed on Linux, needed there with some extra) of what it asks for and is installed."""
    for requirement in package.requires:
        name = _normal(requirement.name)
        if name in packages:
            marker = requirement.marker
            extras = _EXTRA.findall(str(marker)) if marker else []
            always = marker is None or marker.evaluate({**_LINUX, "extra": ""})
            with_extra = (marker.evaluate({**_LINUX, "extra": extra}) for extra in extras if marker)
            yield name, always, always or any(with_extra)


def _read(found: Distribution) -> _Package | None:
    """What a distribution says of itself; None if it has no name."""
    from packaging.requirements import InvalidRequirement, Requirement

    # only the head is read: to parse each file as the e-mail it is costs ten times as much
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    fields = re.findall(r"^(Name|Version|Requires-Dist): *(.*\S)", text.partition("\n\n")[0], re.M)
    head = dict(fields)
    if not {"Name", "Version"} <= head.keys():
        return None
    requires = []
    for key, value in fields:
        if key == "Requires-Dist":
            try:
                requires.append(Requirement(value))
            except InvalidRequirement:
                continue  # pip would not understand it either
    name, version = _normal(head["Name"]), head["Version"].partition("+")[0]
    line, source = _origin(name, version, found.read_text("direct_url.json"))
    return _Package(name, version, requires, found.read_text("REQUESTED") is not None, line, source)


def _origin(name: str, version: str, direct_url: str | None) -> tuple[str | None, str]:
    """The line that requires a package, and its place if that is no index."""
    told: dict[str, Any] = json.loads(direct_url) if direct_url else {}
    url = str(told.get("url", ""))
    if not told:
        return f"{name}=={version}", ""
    if url.startswith("file:") or "dir_info" in told:
        return None, unquote(urlsplit(url).path) or url
    below = f"#subdirectory={told['subdirectory']}" if told.get("subdirectory") else ""
    if vcs := told.get("vcs_info"):
        return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}{below}", url
    return f"{name} @ {url}{below}", url


def _is_below(source: str, root: Path) -> bool:
    return Path(source).resolve().is_relative_to(root)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
