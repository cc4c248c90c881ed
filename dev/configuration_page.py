"""Writes docs/configuration.md from the schema and conf/: `python -m dev.configuration_page`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from crown_exp.config import schema
from crown_exp.config.kinds import kind_of_type

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"

HEAD = """\
# The whole configuration

<!-- Made by `python -m dev.configuration_page` from crown_exp/config/schema.py and conf/; a test compares. -->

Everything that can be typed after `python -m crown_exp`, or written in a yaml file of `conf/`. Your
project's `conf/` lies over the framework's: a file of the same name wins, a new file is a new option.
`crown-exp explain <key> [overrides…]` tells who sets a key in a given command, and what it means.

| typed | means |
|---|---|
| `+experiment=digits_cnn` | start from a preset; it is added (`+`), since no run needs one |
| `model=mlp` | choose an option of a group: `conf/model/mlp.yaml` |
| `model.hidden=256` | set a key, whether a yaml names it or only the signature of its `_target_` does |
| `~lr_schedule` | leave a group empty |
| `-m seed=1,2,3` | a sweep: a run for each value, and for each combination of several |

What has a `_target_` is described by that function's or class's own signature: its parameters are the keys,
its annotations the types (`Annotated[int, Gt(0)]` gives a range). Anything unknown, mistyped or out of
range is one line and exit code 2, before torch is imported.
"""

ABOUT = {
    "experiment": "a preset: which options and settings make an experiment",
    "task": "your function; `task.*` are its keyword parameters",
    "model": "what is trained",
    "dataset": "what it is trained on",
    "optimizer": "how weights move",
    "lr_schedule": "how the learning rate moves",
}

KEYS = """\
## Keys of the framework

**decides**: another value than the default makes another result, so it is part of a run's signature; that of
task, model and the other groups with a `_target_` always is. *not yet*: only the default is accepted in this
version.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD, "\n".join(groups()), KEYS]
    parts += ["\n".join(table(title, keys)) for title, keys in sections()]
    parts.append(
        "Settings that decide no result (the store, the home, the user, secrets) are no part of the\n"
        "configuration: [.env.example](../.env.example) lists them.\n"
    )
    return "\n".join(parts)


def groups() -> Iterator[str]:
    """A table of the groups and what can be chosen of each."""
    yield "## Groups\n"
    yield "| group | chooses | options | default | its keys |"
    yield "|---|---|---|---|---|"
    found = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"}
    known = ["experiment", *schema.TARGET_GROUPS, *schema.FRAMEWORK_GROUPS]
    for group in [name for name in known if name in found] + sorted(found - set(known)):
        options = sorted((ROOT / "conf" / group).rglob("*.yaml"))
        names = [
            path.relative_to(ROOT / "conf" / group).with_suffix("").as_posix() for path in options
        ]
        keys = "below" if group in schema.FRAMEWORK_GROUPS else "of its `_target_`"
        yield row(
            f"`{group}`",
            about(group),
            ", ".join(f"`{name}`" for name in names),
            default_option(group),
            "any" if group == "experiment" else keys,
        )
    yield ""


def about(group: str) -> str:
    """What a group is for."""
    if group in ABOUT or group not in schema.FRAMEWORK_GROUPS:
        return ABOUT.get(group, "")
    text = str(get_type_hints(schema.Schema)[group].__doc__)
    return text[0].lower() + text[1:].rstrip(".")


def default_option(group: str) -> str:
    """The option that conf/config.yaml takes."""
    import yaml

    lines = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    for line in lines:
        if isinstance(line, dict) and line.get(group):
            return f"`{line[group]}`"
    return "none"


def sections() -> Iterator[tuple[str, list[schema.Key]]]:
    """The framework's keys by the section they lie in, the top first."""
    keys = list(schema.leaves())
    for title in dict.fromkeys(key.path.rpartition(".")[0] for key in keys):
        yield title, [key for key in keys if key.path.rpartition(".")[0] == title]


def table(title: str, keys: list[schema.Key]) -> Iterator[str]:
    """The keys of a section."""
    if title:
        doc = str(get_type_hints(schema.Schema)[title].__doc__)
        yield f"### {title}\n\n{doc}\n"
    yield "| key | type | default | unit | meaning |"
    yield "|---|---|---|---|---|"
    for key in keys:
        marks = ("**decides**" if key.decides else "", "*not yet*" if key.planned else "")
        meaning = "; ".join(filter(None, (key.doc, *marks)))
        default = json.dumps(key.default).strip('"')
        kind = str(kind_of_type(key.type))
        yield row(f"`{key.path}`", f"`{kind}`", f"`{default}`", key.unit, meaning)
    yield ""


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
