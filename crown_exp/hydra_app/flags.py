"""The flags and overrides of a command line, as Hydra's own parser knows them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from crown_exp.config.compose import CONFIG_NAME
from crown_exp.errors import ConfigError

REFUSED = {
    "config_path": "crown_exp's own conf stays below yours; a directory over it: --config-dir",
    "experimental_rerun": "a run is repeated from its folder: crown-exp run <folder>",
}
"""Flags of Hydra that mean nothing here."""


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The flags and overrides, in any order. Raises ConfigError for flags that do not go.

    Beside Hydra's own there is --yes, for a launch that costs money, and --json, for plans.
    """

    def refuse(message: str) -> NoReturn:
        raise ConfigError.of("the command line", explained(message, parser))

    parser.error = refuse  # type: ignore[method-assign]
    parser.add_argument("--yes", action="store_true", help="Launch without asking what it may cost")
    parser.add_argument("--json", action="store_true", help="Show a plan as JSON")
    parsed = parser.parse_intermixed_args(arguments)
    for name, why in REFUSED.items():
        if getattr(parsed, name) is not None:
            raise ConfigError.of(f"--{name.replace('_', '-')}", why)
    asked = (parsed.run, parsed.multirun, parsed.cfg, parsed.info, parsed.shell_completion)
    if sum(map(bool, asked)) > 1:
        what = "give only one of --run, --multirun, --cfg, --info and --shell-completion"
        raise ConfigError.of("the command line", what)
    if parsed.resolve and not (parsed.cfg or parsed.help):
        raise ConfigError.of("--resolve", "goes with --cfg or --help")
    parsed.config_name = parsed.config_name or CONFIG_NAME
    return parsed


def explained(message: str, parser: ArgumentParser) -> str:
    """What argparse says, with the flags that may have been meant."""
    from crown_exp.config.nearest import did_you_mean

    text, _, unknown = message.partition("unrecognized arguments: ")
    if not unknown:
        return text
    first = unknown.split()[0]
    flags = [flag for action in parser._actions for flag in action.option_strings]
    if "=" in first:
        return f"no flag {first}; overrides have no dashes: {first.lstrip('-')}"
    return f"no flag {first}; {did_you_mean(first, flags)}"


def config_dir(parsed: Namespace) -> list[Path]:
    """What --config-dir lays over everything. Raises ConfigError if it is no directory."""
    if parsed.config_dir is None:
        return []
    directory = Path(parsed.config_dir).resolve()
    if not directory.is_dir():
        raise ConfigError.of("--config-dir", f"no directory {directory}")
    return [directory]


def retyped(parsed: Namespace) -> list[str]:
    """The flags without which the same overrides would compose something else."""
    name = [] if parsed.config_name == CONFIG_NAME else ["--config-name", parsed.config_name]
    return [*name, *(["--config-dir", parsed.config_dir] if parsed.config_dir else [])]
