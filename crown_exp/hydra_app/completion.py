"""`-sc install=bash`, `uninstall=bash` and `query=bash`: what shells ask; bash, fish and zsh can."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.plugins.completion_plugin import CompletionPlugin

from crown_exp.config.nearest import did_you_mean
from crown_exp.config.settings import completion_line
from crown_exp.errors import ConfigError

ASKED = ("install", "uninstall", "query")
FLAG = "--shell-completion"


def complete(hydra: Hydra, config_name: str, typed: Sequence[str]) -> None:
    """Print the script that a shell evaluates, or what may follow on its line. Raises ConfigError."""
    what, _, shell = typed[0].partition("=") if len(typed) == 1 else ("", "", "")
    if what not in ASKED:
        raise ConfigError.of(FLAG, f"give one of {', '.join(f'{name}=bash' for name in ASKED)}")
    plugins = hydra.get_shell_to_plugin_map(hydra.config_loader)
    if shell not in plugins:
        raise ConfigError.of(f"{FLAG} {typed[0]}", f"no such shell; {did_you_mean(shell, plugins)}")
    plugin = plugins[shell][0]
    if what == "query":
        answer(plugin, config_name)
    elif Path(sys.argv[0]).suffix == ".py":
        what = f"the shell completes the command crown-exp: type crown-exp -sc {typed[0]}"
        raise ConfigError.of(FLAG, what)
    elif what == "install":
        plugin.install()
    else:
        plugin.uninstall()


def answer(plugin: CompletionPlugin, config_name: str) -> None:
    """What may follow on the line; nothing if that cannot be told: the user is in the middle of typing it."""
    line = completion_line()
    if line is None:
        raise ConfigError.of(f"{FLAG} query", "COMP_LINE is not set; shells ask this, not people")
    if follows_word(line):
        return
    with suppress(Exception, SystemExit), redirect_stderr(StringIO()):
        plugin.query(config_name)


def follows_word(line: str) -> bool:
    """Whether the line begins with one of our words (`explain`, …), which Hydra does not know."""
    _, _, rest = line.lstrip().partition(" ")
    first, space, _ = rest.lstrip().partition(" ")
    return bool(space) and "=" not in first and first[:1] not in "-+~"
