"""Hydra plugin: the user's conf directories over the built-in ones, in our own application only."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from crown_exp.config.layers import layers


class CrownSearchPath(SearchPathPlugin):
    """Prepends what `crown_exp.config.layers` holds."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the topmost layer first."""
        for directory in reversed(layers()):
            search_path.prepend("crown-user", f"file://{directory}")
