"""`crown-exp init [DIRECTORY]`: a project of one's own, with an experiment that runs.

Its conf/ and experiments/ are the very files of the crown_exp repository. A wheel carries them in
`crown_exp/cli/templates` (dev/hatch_build.py), a checkout has them at its root.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from crown_exp.errors import ConfigError

HERE = Path(__file__).parent
OWN_GROUPS = ("experiment", "task", "model", "dataset")
"""The config groups that belong to a project; all others are the framework's."""


@click.command(name="init")
@click.argument("directory", default=".")
@click.option(
    "--from", "preset", default="digits_cnn", show_default=True, metavar="EXPERIMENT",
    help="the experiment to start from",
)  # fmt: skip
def command(directory: str, preset: str) -> None:
    """Write a project with an experiment that runs into DIRECTORY (default: here).

    Never overwrites: if any of its files exists, nothing is written.
    """
    from crown_exp.cli.writing import told, write_all

    if not directory.strip():
        raise ConfigError.of("init", 'expected a directory, got ""; this one is typed .')
    place = Path(directory)
    files = project_files(preset, place.resolve().name)
    write_all(place, files)
    click.echo(f"wrote {len(files)} files to {told(place)}")
    for path in sorted(files):
        click.echo(f"  {path}")
    click.echo("next:")
    for step in next_steps(place, preset, files):
        click.echo(f"  {step}")


def next_steps(directory: Path, preset: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """What to type now."""
    if directory.resolve() != Path.cwd():
        yield f"cd {shlex.quote(str(directory))}"
    if missing := missing_modules(files):
        yield f"pip install 'crown-exp[examples]'   # for {', '.join(missing)}"
    yield f"python -m crown_exp +experiment={preset}"


def templates() -> Path:
    """Where conf/ and experiments/ lie that projects are made of."""
    installed = HERE / "templates"
    return installed if installed.is_dir() else HERE.parents[1]


def project_files(preset: str, name: str) -> dict[str, bytes]:
    """Every file of a project, by its path in the project. Raises ConfigError for an unknown preset.

    name: what people call the project; its pyproject.toml has the nearest name that is legal there.
    """
    source = templates()
    module, configs = parts_of(source, preset)
    words = {
        "experiment": preset,
        "title": name or "experiments",
        "package": re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "experiments",
    }
    copied = [*configs, f"{module.replace('.', '/')}.py", ".env.example"]
    return {path: (source / path).read_bytes() for path in copied} | {
        path: filled(HERE / "project" / f"{path.lstrip('.')}.in", words)
        for path in ("pyproject.toml", ".gitignore", "README.md", "tests/test_experiment.py")
    }


def filled(template: Path, words: Mapping[str, str]) -> bytes:
    """A template's text with its `$names` filled in."""
    from string import Template

    return Template(template.read_text(encoding="utf-8")).substitute(words).encode()


def parts_of(source: Path, preset: str) -> tuple[str, list[str]]:
    """The module that holds a preset's task, and the yaml files that a project with it needs.

    These are the preset, what it chooses of the project's own groups, and every other option of those
    groups that names something in that module.
    """
    conf = configs_in(source)
    presets = {name for group, name in conf if group == "experiment"}
    if preset not in presets:
        from crown_exp.config.nearest import did_you_mean

        where, what = (f"--from {preset}", "no such") if preset else ("--from", "names no")
        raise ConfigError.of(where, f"{what} experiment; {did_you_mean(preset, presets)}")
    chosen = {("experiment", preset), *choices(conf["experiment", preset])} & conf.keys()
    task = next(option for option in chosen if option[0] == "task")
    module = module_of(conf[task])
    needed = {
        option
        for option, content in conf.items()
        if option in chosen or (option[0] != "experiment" and module_of(content) == module)
    }
    return module, [f"conf/{group}/{name}.yaml" for group, name in sorted(needed)]


def configs_in(source: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every option of the project's own groups, by group and name."""
    import yaml

    return {
        (group, path.relative_to(source / "conf" / group).with_suffix("").as_posix()):
            yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for group in OWN_GROUPS
        for path in sorted((source / "conf" / group).rglob("*.yaml"))
    }  # fmt: skip


def choices(preset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Group and option of every line like `override /model: cnn` of a defaults list."""
    for line in preset.get("defaults", ()):
        if isinstance(line, dict):
            for group, option in line.items():
                yield group.split()[-1].strip("/"), str(option)


def module_of(content: Mapping[str, Any]) -> str:
    """The module that a config's `_target_` lies in; empty if it has none."""
    return str(content.get("_target_", "")).rpartition(".")[0]


def missing_modules(files: Mapping[str, bytes]) -> list[str]:
    """Top-level modules that the project's experiments import and that are not installed."""
    from importlib.util import find_spec

    names = {
        name.partition(".")[0]
        for path, text in files.items()
        if path.startswith("experiments/")
        for node in ast.walk(ast.parse(text))
        for name in imported(node)
    }
    return sorted(name for name in names if name != "experiments" and find_spec(name) is None)


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []
