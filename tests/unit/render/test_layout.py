"""A configuration says enough for a proxy, or every problem is named."""

from typing import Any

import pytest

from extproc.config import Config
from extproc.render.layout import Options, RenderError, layout
from extproc.render.target import render


def pool(name: str, capacity: int, *endpoints: str) -> dict[str, Any]:
    return {"name": name, "capacity": capacity, "endpoints": list(endpoints or (f"{name}:8000",))}


def config(**sets: list[dict[str, Any]]) -> Config:
    return Config.model_validate({"pools": sets})


def test_three_pools() -> None:
    """What a pool refuses goes to the largest of its set."""
    found = layout(config(default=[pool("s", 100), pool("m", 200), pool("l", 300)]))
    assert list(found.pools) == ["s", "m", "l"]
    assert found.larger == {"s": "l", "m": "l"}
    assert found.default == "l"


def test_two_sets() -> None:
    """Pools of all sets are there, each once; a pool may belong to several sets with the same largest."""
    found = layout(
        config(
            default=[pool("s", 100), pool("l", 300)], other=[pool("m", 200), pool("l", 300)], one=[pool("x", 50)]
        )
    )
    assert list(found.pools) == ["s", "l", "m", "x"]
    assert found.larger == {"s": "l", "m": "l"}


def test_no_endpoints() -> None:
    """Each pool without servers is named."""
    with pytest.raises(RenderError) as error:
        layout(Config())
    assert [p.split(":")[0] for p in error.value.problems] == [
        "pools.default.0.endpoints",
        "pools.default.1.endpoints",
    ]


@pytest.mark.parametrize("other", [pool("s", 90), pool("s", 100, "elsewhere:1")])
def test_ambiguous_name(other: dict[str, Any]) -> None:
    """One name for two pools is an error: the header could not tell them apart."""
    with pytest.raises(RenderError, match=r"pools\.other\.0\.name: 's'"):
        layout(config(default=[pool("s", 100), pool("l", 300)], other=[other, pool("l", 300)]))


@pytest.mark.parametrize(
    ("kind", "name", "problem"),
    [
        ("envoy", "dualpool", "Dualpool's own cluster has this name: give the pool another"),
        (
            "envoy-filter",
            "short-then-long",
            "the cluster of short and, for what that refuses, long has this name: give",
        ),
        ("istio", "read-chat", "the route of answers that are read has this name: give"),
        (
            "envoy-gateway",
            "long-fallback",
            "the Backend for what a smaller pool of long refuses has this name: give",
        ),
    ],
)
def test_a_name_that_is_taken(kind: str, name: str, problem: str) -> None:
    """Envoy would refuse the whole configuration, and of two objects of Kubernetes the second would be applied."""
    sets = config(default=[pool("short", 100), pool("long", 300)], other=[pool(name, 50), pool("x", 400)])
    with pytest.raises(RenderError) as error:
        render(kind, sets, Options(usage="access-log" if kind == "istio" else "response-body"))
    assert error.value.problems[0].startswith(f"pool {name!r}: {problem}")


def test_ambiguous_larger() -> None:
    """One pool with two largest pools is an error: a refused request could go to the wrong one."""
    with pytest.raises(RenderError, match=r"pools\.other\.0\.name: 's'"):
        layout(config(default=[pool("s", 100), pool("l", 300)], other=[pool("s", 100), pool("k", 300)]))


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        (
            Options(exchange="in-proxy"),
            [
                "--exchange in-proxy: the service sees no answer there: add --usage access-log",
                "in_proxy.file: null: name the file that the service writes and Envoy watches",
            ],
        ),
        (
            Options(usage="access-log", envoy=(1, 37)),
            ["--usage access-log: takes Envoy 1.38 (sse_to_metadata): --envoy names an older one"],
        ),
        (
            Options(json_log="requests.log"),
            ["--json-log: only Envoy's filters tell it of tokens: add --usage access-log"],
        ),
    ],
    ids=["in-proxy", "old Envoy", "JSON log"],
)
def test_options_that_do_not_go_together(options: Options, problems: list[str]) -> None:
    """What could not work is refused, and each problem says what to do."""
    with pytest.raises(RenderError) as error:
        render("envoy", config(default=[pool("s", 100), pool("l", 300)]), options)
    assert error.value.problems == problems
