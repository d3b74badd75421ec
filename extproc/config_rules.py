"""Rules across several keys. Each problem is one line that says where it is, what is wrong, and what to do."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from extproc.config_service import InProxy, State

if TYPE_CHECKING:
    from extproc.config import Categories, Pool, Routing, Spillover


def complain(problems: list[str]) -> None:
    """Raise `ValueError` with all problems, one a line, if there are any."""
    if problems:
        raise ValueError("\n".join(problems))


def pool_problems(pools: "Mapping[str, tuple[Pool, ...]]", default: str) -> list[str]:
    """There must be a set named `default`. Pools of a set must differ in name and increase in capacity."""
    problems = []
    if default not in pools:
        problems.append(f"pools: {sorted(pools)}: one set must be named {default!r}")
    for name, members in pools.items():
        if not members:
            problems.append(f"pools.{name}: []: a set needs at least one pool")
        if len({p.name for p in members}) < len(members):
            problems.append(f"pools.{name}: {[p.name for p in members]}: pool names must differ")
        capacities = [p.capacity for p in members]
        if any(a >= b for a, b in itertools.pairwise(capacities)):
            problems.append(f"pools.{name}: {capacities}: capacities must increase, smallest pool first")
    return problems


def model_problems(models: Mapping[str, str], pools: Mapping[str, Any]) -> list[str]:
    """The pool set of a model must exist."""
    return [
        f"models.{model}: {name!r}: no such pool set; there are {sorted(pools)}"
        for model, name in models.items()
        if name not in pools
    ]


def taken_header(key: str, name: str | None, routing: "Routing") -> list[str]:
    """No header of the client may be the routing header, which Envoy removes from what clients send."""
    if name != routing.header:
        return []
    return [f"{key}: {name!r}: is routing.header, which no client can set: name another"]


def category_problems(routing: "Routing | None", categories: "Categories") -> list[str]:
    """A header that names categories must reach the service, and be allowed to name at least one."""
    problems = []
    if routing is not None and "header" in categories.sources:
        problems += taken_header("categories.header", categories.header, routing)
    if "header" in categories.sources and not categories.allowed:
        problems.append(
            "categories.allowed: []: with `header` among categories.sources, name the categories it may name"
        )
    return problems


def file_problems(state: State | None, in_proxy: InProxy) -> list[str]:
    """State and filter must not share a file: each would overwrite the other."""
    if state is None or state.file is None or state.file != in_proxy.file:
        return []
    return [f"in_proxy.file: {str(in_proxy.file)!r}: is state.file too: name another for the filter"]


MARGIN = 2
"""Least `stale_seconds`, in units of `interval_seconds`: pools are judged by answers up to one interval old, and an
answer takes time too."""


def spillover_problems(spillover: "Spillover", pools: "Mapping[str, tuple[Pool, ...]]") -> list[str]:
    """Marks must name existing pools, and something must report how full the pools are."""
    members = [pool for each in pools.values() for pool in each]
    names = sorted({pool.name for pool in members})
    problems = [
        f"spillover.requests.{name}: {limit}: no such pool; there are {names}"
        for name, limit in spillover.requests.items()
        if name not in names
    ]
    if spillover.envoy and not spillover.requests:
        problems.append(
            "spillover.requests: {}: Envoy's gauges say nothing without it: how many saturate each pool?"
        )
    return [*problems, *_idle(spillover, pools)] if spillover.enabled else problems


def _idle(spillover: "Spillover", pools: "Mapping[str, tuple[Pool, ...]]") -> Iterator[str]:
    """Yield why spillover is on and could never act: pools of which nothing is known neither spill nor take."""
    known = {pool.name for each in pools.values() for pool in each if pool.endpoints} | {*spillover.requests}
    spilling = [pair for each in pools.values() for pair in itertools.pairwise(each) if pair[0].name in known]
    if not spilling:
        yield f"spillover.enabled: true: nothing says how full a pool is that has a larger one: {_SOURCES}"
    elif not any(larger.name in known for _, larger in spilling):
        smaller, larger = spilling[0]
        yield (
            f"spillover.enabled: true: nothing says how full {larger.name} is, so it would take nothing from "
            f"{smaller.name}: {_SOURCES}"
        )
    if spillover.stale_seconds < MARGIN * spillover.interval_seconds:
        yield (
            f"spillover.stale_seconds: {spillover.stale_seconds:g}: must be at least {MARGIN} times "
            f"spillover.interval_seconds ({spillover.interval_seconds:g}), or nothing is known between two answers"
        )


_SOURCES = "name its servers (pools.*.endpoints), or how many requests saturate it (spillover.requests)"
