"""SkyPilot's settings: there are none."""


def get_active_workspace() -> str:
    return "default"
