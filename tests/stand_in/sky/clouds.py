"""What a cloud may be used for."""

import enum


class CloudCapability(enum.Enum):
    """As SkyPilot names them."""

    COMPUTE = "compute"
