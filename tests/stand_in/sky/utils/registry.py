"""Clouds by their names."""

from ..market import Cloud  # noqa: TID252 - the package has two names


class CLOUD_REGISTRY:
    """As SkyPilot has it."""

    @staticmethod
    def from_str(name: str) -> Cloud:
        return Cloud(name)
