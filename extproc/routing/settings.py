"""The settings of one route of the proxy, which override the configuration file."""

import msgspec


class RouteSettings(msgspec.Struct, frozen=True):
    """Settings of one route, all optional.

    `pools`: the pool set, whatever the model. `thresholds`: by pool name, the largest budget (tokens) it is used
    for; lowers a capacity, never raises it. `category`: the category to learn under, unless a request header names
    one. `shadow`, `rollout_percent`, `default_output`: as in the configuration file. `answers`: whether Envoy sends
    messages about the answer. `body`: whether it sends the body of the request.
    """

    pools: str | None = None
    thresholds: dict[str, int] = {}
    category: str = ""
    shadow: bool | None = None
    rollout_percent: float | None = None
    default_output: int | None = None
    answers: bool = True
    body: bool = True


NO_SETTINGS = RouteSettings()
"""A route without settings."""
