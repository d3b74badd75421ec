"""What keeps the service from starting."""


class StartError(Exception):
    """The service cannot start. The message names the configuration key, its value and the reason."""
