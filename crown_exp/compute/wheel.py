"""The wheel of crown_exp as it is imported here, packed without a build tool.

Where crown_exp was installed from a wheel, its files are those of its RECORD. In a checkout they are what
pyproject.toml and dev/hatch_build.py say: the same as hatchling would pack.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.errors import CrownError

PACKAGE = Path(__file__).parents[1]

_TEMPLATES = "crown_exp/cli/templates"
_BESIDE_CONF = ("experiments", ".env.example")
_TAG = "py3-none-any"
_NOT_OURS = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
_NO_PART = ("__pycache__", ".DS_Store")


@dataclass(frozen=True)
class Wheel:
    """name: of the file. files: what is in it, without its RECORD, by path."""

    name: str
    files: Mapping[str, bytes]

    def pack(self) -> bytes:
        """The file: equal bytes for equal files."""
        folder = next(name for name in self.files if name.endswith(".dist-info/WHEEL"))
        place = f"{folder.removesuffix('WHEEL')}RECORD"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in (*self.files.items(), (place, self._record(place))):
                entry = zipfile.ZipInfo(name)  # dated 1980, as its default is
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o100644 << 16
                packed.writestr(entry, data)
        return buffer.getvalue()

    def _record(self, place: str) -> bytes:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for name, data in self.files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.writerow((name, f"sha256={digest}", len(data)))
        rows.writerow((place, "", ""))
        return text.getvalue().encode()


def own_wheel(package: Path = PACKAGE) -> Wheel:
    """The wheel of the crown_exp in a folder: the imported one. Raises CrownError if its files are gone."""
    site = package.parent
    project = site / "pyproject.toml"
    if not (package / "conf").is_dir() and project.is_file():
        return _from_checkout(site, tomllib.loads(project.read_text(encoding="utf-8")))
    found = sorted(site.glob("crown_exp-*.dist-info"))
    if len(found) != 1:
        raise CrownError(f"crown_exp in {site} is not whole: {len(found)} records; {_AGAIN}")
    files = dict(sorted(_recorded(site, found[0])))
    version = found[0].name.removesuffix(".dist-info").partition("-")[2]
    return Wheel(f"crown_exp-{version}-{_TAG}.whl", files)


_AGAIN = "install it again: pip install --force-reinstall crown-exp"


def _recorded(site: Path, info: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as record:
            names = [row[0] for row in csv.reader(record) if row]
        for name in names:
            parts = name.split("/")
            ours = parts[0] == info.name and parts[-1] not in _NOT_OURS
            code = parts[0] in ("crown_exp", "hydra_plugins") and "__pycache__" not in parts
            if ours or code:
                yield name, (site / name).read_bytes()
    except OSError as error:
        raise CrownError(f"crown_exp in {site} is not whole: {error}; {_AGAIN}") from None


def _from_checkout(root: Path, config: Mapping[str, Any]) -> Wheel:
    project, rules = config["project"], config["tool"]["hatch"]["build"]["targets"]["wheel"]
    beside = [name.strip("/") for name in rules["exclude"]]
    files: dict[str, bytes] = {}
    for name in (*beside, *_BESIDE_CONF):
        files |= _below(root / name, f"{_TEMPLATES}/{name}")
    files |= _below(root / "crown_exp", "crown_exp")
    files |= _below(root / "launchers/hydra_plugins", "hydra_plugins")
    kept = [path for path in sorted((root / "conf").iterdir()) if f"conf/{path.name}" not in beside]
    for path in kept:
        files |= _below(path, f"crown_exp/conf/{path.name}")
    version = project["version"]
    info = f"crown_exp-{version}.dist-info"
    described = {
        f"{info}/METADATA": "".join(f"{line}\n" for line in _metadata(project)),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: crown_exp\nRoot-Is-Purelib: true\nTag: {_TAG}\n",
        f"{info}/entry_points.txt": "[console_scripts]\n"
        + "".join(f"{name} = {target}\n" for name, target in project["scripts"].items()),
    }
    packed = {name: text.encode() for name, text in described.items()}
    return Wheel(f"crown_exp-{version}-{_TAG}.whl", dict(sorted(files.items())) | packed)


def _below(path: Path, name: str) -> dict[str, bytes]:
    """A file, or all files of a folder, called as in the wheel."""
    if path.is_file():
        return {name: path.read_bytes()} if path.suffix != ".pyc" else {}
    return {
        inner: data
        for below in sorted(path.iterdir())
        if below.name not in _NO_PART
        for inner, data in _below(below, f"{name}/{below.name}").items()
    }


def _metadata(project: Mapping[str, Any]) -> Iterator[str]:
    yield "Metadata-Version: 2.1"
    yield f"Name: {project['name']}"
    yield f"Version: {project['version']}"
    yield f"Summary: {project['description']}"
    yield f"Requires-Python: {project['requires-python']}"
    for requirement in project["dependencies"]:
        yield f"Requires-Dist: {requirement}"
    for extra, requirements in project["optional-dependencies"].items():
        yield f"Provides-Extra: {extra}"
        for requirement in requirements:
            yield f'Requires-Dist: {requirement}; extra == "{extra}"'
