"""The error of a plan that cannot be made."""


class PlanError(Exception):
    """Input that cannot be used. The message is one line: the file, the row or key, the value, and the rule."""
