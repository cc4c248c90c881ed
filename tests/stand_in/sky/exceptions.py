"""Those that the stand-in raises, by the names that SkyPilot has for them."""


class CloudError(Exception):
    pass


class ClusterDoesNotExist(ValueError):
    pass


class ClusterNotUpError(Exception):
    cluster_status = None


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


class APIVersionMismatchError(Exception):
    pass


class ApiServerConnectionError(Exception):
    pass
