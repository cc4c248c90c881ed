"""What a wheel holds beside the packages: the files that `crown-exp init` makes projects from.

They are the very files of this checkout. An editable install finds them here, so nothing is copied for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "crown_exp/cli/templates"
BESIDE_CONF = ("experiments", ".env.example")


class Templates(BuildHookInterface):  # type: ignore[type-arg]
    """Moves what the wheel's `exclude` keeps out of the built-in conf to where `init` looks for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build; `version` is "editable" for `pip install -e`."""
        if version == "editable":
            return
        names = [*self.build_config.target_config["exclude"], *BESIDE_CONF]
        for name in (item.strip("/") for item in names):
            build_data["force_include"][str(Path(self.root, name))] = f"{PLACE}/{name}"
