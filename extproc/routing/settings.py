"""What one route of the proxy asks for, in place of the configuration file's own word."""

import msgspec


class RouteSettings(msgspec.Struct, frozen=True):
    """Settings of one route, all optional.

    `pools`: pool set, whatever the model. `thresholds`: budget (tokens) up to which a pool is used, by its name;
    it lowers a capacity, never raises it. `category`: what figures are learned for, unless a request header names
    one. `shadow`, `rollout_percent`, `default_output`: as in the configuration file. `answers`: whether Envoy
    tells of the answer over the exchange too, and not by its access log alone. `body`: whether it sends the body
    of the request too, and not its headers alone.
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
"""A route that says nothing."""
