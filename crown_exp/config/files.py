"""What is wrong with the config files of a command: their yaml, and the names in their defaults lists.

Read from the primary config and the chosen options along their defaults lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.core.override_parser.types import Override
from omegaconf.errors import OmegaConfBaseException

from crown_exp.config import schema
from crown_exp.config.compose import one_line
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import line_of
from crown_exp.config.overrides import option_values
from crown_exp.config.places import display
from crown_exp.config.tree import Tree
from crown_exp.errors import Problem

KEYWORDS = ("_self_", "schema")

GLOBAL = re.compile(r"^#\s*@package\s+_global_\s*$", re.MULTILINE)


@dataclass
class Walk:
    """Every file that a command brings in, read without composing them.

    chosen: the overrides that may choose options. listed: the groups in the files' defaults lists, each with
    the place that lists it. replaced: the groups of `override` lines, with their places.
    """

    tree: Tree
    chosen: Sequence[Override]
    problems: list[Problem] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    def follow(self, config_name: str) -> None:
        """Read the primary config, the options that were chosen, and what they list in turn."""
        if not self.tree.has_config(config_name):
            near = did_you_mean(config_name, self.tree.primary())
            self.problems.append(Problem(f"--config-name {config_name}", f"no such config; {near}"))
            return
        groups = [item for item in self.chosen if self.tree.is_group(item.key_or_group)]
        typed = {item.key_or_group for item in groups}
        queue = [config_name]
        queue += [f"{item.key_or_group}/{name}" for item in groups for name in option_values(item)]
        seen = set[str]()
        while queue:
            path = queue.pop(0)
            if path not in seen and not path.startswith("hydra/") and self.tree.has_config(path):
                seen.add(path)
                for where, line in self.read(path):
                    self.note(path, where, line)
                    queue += [] if group_of(path, line) in typed else followed(path, line)
        for group, where in self.replaced.items():
            if group not in {*self.listed, *typed} and self.tree.is_group(group):
                how = f"{group} is in no defaults list; write `/{group}: …` without override"
                self.problems.append(Problem(where, f"defaults list: {how}"))

    def read(self, path: str) -> list[tuple[str, InputDefault]]:
        """The lines of the defaults list of one config, with their places; its problems are noted."""
        file = self.tree.file(path)
        sections = {*schema.SECTIONS, *schema.TARGET_GROUPS, *self.tree.groups()}
        if file and (wrong := list(yaml_problems(file, sections))):
            self.problems += wrong
            return []
        try:
            lines = self.tree.repository.load_config(path).defaults_list
        except OmegaConfBaseException as error:
            line = line_of(file, str(error.full_key)) if file else None
            where = f"{display(file)}:{line}" if file and line else self.tree.shown(path)
            self.problems.append(Problem(where, f"{error.full_key}: {one_line(error)}"))
            return []
        except (ValueError, AssertionError) as error:
            where = places(file, path, 1)[0]
            self.problems.append(Problem(where, f"defaults list: {shape_of(error)}"))
            return []
        found = list(zip(places(file, path, len(lines)), lines, strict=True))
        self.problems += order_problems(found)
        return found

    def note(self, path: str, where: str, line: InputDefault) -> None:
        """What one line of the defaults list of `path` lists, and gets wrong."""
        told = list(line_problems(self.tree, path, line))
        group = group_of(path, line)
        if group and line.is_override() and not group.startswith("hydra/"):
            self.replaced[group] = where
        elif group and not line.is_override():
            name = f"{group}@{line.package}" if line.package else group
            if name in self.listed:
                instead = f"write `override /{name}: …`"
                told.append(f"{name} is chosen in {self.listed[name]} already; {instead}")
            self.listed.setdefault(name, where)
        self.problems += [Problem(where, f"defaults list: {what}") for what in told]


def yaml_problems(file: Path, sections: Collection[str]) -> Iterator[Problem]:
    """Why a file is no mapping in yaml, with its line; `sections` are the keys that are mappings, too."""
    try:
        text = file.read_text(encoding="utf-8")
        # Hydra's own loader: it refuses duplicate keys as well
        from omegaconf._utils import get_yaml_loader

        root = yaml.compose(text, Loader=yaml.SafeLoader)
        yaml.load(text, Loader=get_yaml_loader())
    except UnicodeDecodeError:
        yield Problem(display(file), "is not UTF-8 text")
    except OSError as error:
        yield Problem(display(file), f"cannot be read: {error.strerror}")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        yield Problem(f"{display(file)}:{line}", f"is not YAML: {said(error)}")
    except yaml.YAMLError as error:
        yield Problem(display(file), f"is not YAML: {' '.join(str(error).split())}")
    else:
        if isinstance(root, yaml.MappingNode):
            yield from list_problems(root, file, sections) if GLOBAL.search(text) else ()
        elif root is not None:
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            line = root.start_mark.line + 1
            yield Problem(f"{display(file)}:{line}", f"expected `key: value` lines, got {kind}")


def list_problems(
    root: yaml.MappingNode, file: Path, sections: Collection[str]
) -> Iterator[Problem]:
    """Lists in place of a group or section, of which Hydra would not say where they are."""
    for key, value in root.value:
        if key.value in sections and isinstance(value, yaml.SequenceNode):
            where = f"{display(file)}:{key.start_mark.line + 1}"
            yield Problem(where, f"{key.value}: expected keys, got a list")


def said(error: yaml.MarkedYAMLError) -> str:
    """What the yaml parser says, in words for someone who wrote a config."""
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "a tab cannot indent; use spaces"
    if duplicate := re.match(r"found duplicate key (.+)", problem):
        return f"{duplicate[1]} is set twice"
    return f"{error.context}: {problem}" if error.context else problem


def places(file: Path | None, path: str, count: int) -> list[str]:
    """The file and line of each of the `count` lines of a defaults list; of the list if it is none."""
    if file is None:
        return [path] * count
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "defaults"), root)
    items = node.value if isinstance(node, yaml.SequenceNode) else []
    lines = [item.start_mark.line + 1 for item in items]
    lines += [node.start_mark.line + 1 if node else 1] * (count - len(lines))
    return [f"{display(file)}:{line}" for line in lines[:count]]


def shape_of(error: Exception) -> str:
    """What Hydra says of a defaults list it cannot take apart."""
    if "must be a list" in str(error):
        return "expected a list, each line `- group: option`"
    return f"expected lines `- group: option`; {' '.join(str(error).split())}"


def order_problems(lines: Sequence[tuple[str, InputDefault]]) -> Iterator[Problem]:
    """Hydra takes `override` lines only after all others (`_self_` aside)."""
    seen = False
    for where, line in lines:
        if seen and not line.is_override() and not is_self(line):
            what = "defaults list: `override` lines come last; move this one above them"
            yield Problem(where, what)
        seen = seen or line.is_override()


def is_self(line: InputDefault) -> bool:
    """Whether a line of a defaults list is `_self_`."""
    return isinstance(line, ConfigDefault) and line.path == "_self_"


def line_problems(tree: Tree, path: str, line: InputDefault) -> Iterator[str]:
    """What one line of the defaults list of the config `path` gets wrong."""
    if isinstance(line, ConfigDefault):
        name = str(line.path)
        if name not in KEYWORDS and not tree.has_config(absolute(path, name)):
            folder = path.rpartition("/")[0]
            known = tree.options(folder) if folder else tree.primary()
            yield f"no config {name!r}; {did_you_mean(name, known)}"
        return
    group = group_of(path, line)
    if group is None:
        return
    if not tree.is_group(group):
        top = group.removeprefix(f"{path.rpartition('/')[0]}/")
        if tree.is_group(top):
            yield f"no group {group!r}; names begin at this folder: write /{top}"
        else:
            yield f"no group {group!r}; {did_you_mean(group, tree.all_groups())}"
        return
    options = tree.options(group)
    for name in option_names(line):
        if name == "???":
            yield f"{group} is left open: type {group}=<name>"
        elif name not in options and "${" not in name and not line.is_optional():
            yield f"group {group} has no option {name!r}; {did_you_mean(name, options)}"


def followed(path: str, line: InputDefault) -> list[str]:
    """The configs that a line of a defaults list brings in."""
    if isinstance(line, ConfigDefault):
        return [] if line.path in KEYWORDS else [absolute(path, str(line.path))]
    group = group_of(path, line)
    return [f"{group}/{name}" for name in option_names(line)] if group else []


def group_of(path: str, line: InputDefault) -> str | None:
    """The absolute group that a line of the defaults list of `path` names; None if it names none."""
    if not isinstance(line, GroupDefault) or line.group is None:
        return None
    return absolute(path, line.group)


def absolute(path: str, name: str) -> str:
    """A name as it stands in the config `path`, which is relative to the folder of that."""
    folder = path.rpartition("/")[0]
    return name.lstrip("/") if name.startswith("/") or not folder else f"{folder}/{name}"


def option_names(line: InputDefault) -> list[str]:
    """The options that a line of a defaults list names."""
    if not isinstance(line, GroupDefault) or line.value is None:
        return []
    return [str(item) for item in line.value] if isinstance(line.value, list) else [str(line.value)]
