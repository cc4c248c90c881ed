"""Those that the stand-in raises, by the names that SkyPilot has for them."""


class CloudError(Exception):
    pass


class ClusterDoesNotExist(ValueError):
    pass


class ClusterNotUpError(Exception):
    """cluster_status: the word for what it is instead; None if it does not exist."""

    def __init__(self, message: str, cluster_status: str | None = None) -> None:
        super().__init__(message)
        self.cluster_status = cluster_status


class InvalidSkyPilotConfigError(ValueError):
    pass


class NoCloudAccessError(Exception):
    pass


class NotSupportedError(Exception):
    pass


class ResourcesUnavailableError(Exception):
    pass


class RequestCancelled(Exception):
    pass


class CloudUserIdentityError(Exception):
    pass


class APIVersionMismatchError(RuntimeError):
    pass


class ApiServerConnectionError(RuntimeError):
    def __init__(self, server_url: str) -> None:
        super().__init__(
            f"Could not connect to SkyPilot API server at {server_url}. Please ensure that the server is "
            f"running. Try: curl {server_url}/api/health"
        )


class InternalError(Exception):
    """Stands for whatever a server's code may raise: SkyPilot has no class for it."""
