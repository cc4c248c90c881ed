"""Where SkyPilot notes the way to clusters."""


class SSHConfigHelper:
    """As SkyPilot has it."""

    ssh_cluster_path = "~/.sky/generated/ssh/{}"
