"""The one settings model: every key, its default, its bounds and what it means.

Here are the sections that say how requests are decided, and the whole; `extproc.config_service` has the others.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from extproc.config_rules import (
    category_problems,
    complain,
    file_problems,
    model_problems,
    pool_problems,
    spillover_problems,
    taken_header,
)
from extproc.config_service import InProxy, Server, State
from extproc.config_types import HeaderName, HostPort, Name, OwnHeaderName, Settings

DEFAULT_POOL_SET = "default"

CategorySource = Literal["header", "model", "content"]


class Pool(Settings):
    """One vLLM pool."""

    name: Name = Field(description="Value of the routing header that selects the pool")
    capacity: int = Field(
        ge=16,
        le=100_000_000,
        description="Tokens that one request may use, prompt and output together: the --max-model-len of its "
        "servers",
    )
    endpoints: tuple[HostPort, ...] = Field(
        (),
        max_length=1024,
        description="HOST:PORT of its vLLM servers, plain HTTP. `dualpool render` makes Envoy's cluster of "
        "them. The service reads their /v1/models (is max_model_len the capacity?) and, for spillover, their "
        "/metrics",
    )


class Routing(Settings):
    """How a pool is chosen and announced."""

    header: OwnHeaderName = Field("x-token-pool", description="Request header that carries the chosen pool")
    shadow: bool = Field(
        False,
        description="Shadow mode: decide, count and learn, but send every request to the largest pool of its set",
    )
    rollout_percent: float = Field(
        100.0,
        ge=0,
        le=100,
        description="Share of conversations that are routed by budget; the others go to the largest pool",
    )
    conversation_header: HeaderName | None = Field(
        None,
        description="Header that names a conversation. Without it: the body's prompt_cache_key or user, else "
        "the request id",
    )
    sticky_long: bool = Field(
        False,
        description="Keep a conversation in the largest pool once it has been sent there. With the exchange body, "
        "one that is sent there for a body over 2 MiB, or cut by Envoy, is known by its header alone. No "
        "effect in-proxy",
    )

    @model_validator(mode="after")
    def _heard(self) -> Self:
        complain(taken_header("routing.conversation_header", self.conversation_header, self))
        return self


class Categories(Settings):
    """What figures are learned for. Each source can be left out."""

    sources: tuple[CategorySource, ...] = Field(
        ("model", "content"),
        description="What sets figures apart. model: the model. header: a category named by a request header. "
        "content: the class of the text (latin, code, structured, cjk, other_script), if no header names a "
        "category; of bodies that stay in Envoy it is not known",
    )
    header: HeaderName = Field(
        "x-token-category",
        description="Header that names the category, if `header` is among the sources. Not the routing header",
    )
    allowed: tuple[Name, ...] = Field(
        (),
        description="Categories that the header may name; any other value is ignored. Required if `header` is "
        "among the sources",
        max_length=256,
    )
    limit: int = Field(
        256,
        ge=4,
        le=4096,
        description="Most learned figures of each kind to keep; beyond it the least recently used is dropped. "
        "Answer lengths take one for each model and one for each of its classes of text: up to 6 a model",
    )


class Estimation(Settings):
    """From text to prompt tokens."""

    estimator: Literal["linear", "ratio"] = Field(
        "linear",
        description="linear: tokens for each kind of byte, per model. ratio: bytes per token, per category. Bodies "
        "that stay in Envoy (exchanges bodyless and in-proxy) are always estimated by a ratio",
    )
    misroute_percent: float = Field(
        0.1,
        gt=0,
        le=50,
        description="Share of all requests that may be sent to a pool that does not hold them. Sets the output "
        "reserve and, with `linear`, the margin above an estimate",
    )
    prior_bytes_per_token: float = Field(
        3.0,
        ge=0.5,
        le=16,
        description="Bytes per token that a ratio starts from, before anything is learned. Lower is more careful",
    )
    smoothing: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Weight of a new observation in a ratio's moving averages (alpha)",
    )
    deviations: float = Field(
        2.0,
        ge=0,
        le=10,
        description="ratio: standard deviations subtracted as a safety margin (z)",
    )
    min_samples: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="Observations needed before a learned figure replaces a more general one",
    )
    tokens_per_message: float = Field(
        4.0,
        ge=0,
        le=100,
        description="ratio: tokens the chat template adds to each message. No effect on bodies that stay in Envoy",
    )
    tokens_per_media: int = Field(
        1500,
        ge=0,
        le=1_000_000,
        description="Tokens assumed for an image, audio clip or file. No effect on bodies that stay in Envoy",
    )
    answers_percent: float = Field(
        100.0,
        ge=0,
        le=100,
        description="Share of answers read for their usage once what they would teach is learned. No effect on "
        "the access log",
    )


class Output(Settings):
    """Output tokens set aside for requests that state no cap."""

    quantile: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Quantile of past completion lengths to reserve. Without it: what "
        "estimation.misroute_percent asks for",
    )
    min_samples: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Completions needed before their lengths are used. Until then requests without a cap go long",
    )
    default: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="Tokens to reserve until enough completions are seen, instead of going long",
    )


class Spillover(Settings):
    """A saturated pool passes requests to the next larger one while that has room."""

    enabled: bool = Field(
        False,
        description="Watch how full the pools are, and spill. The load of a pool comes from the first source "
        "that is known: vLLM's metrics (`pools.*.endpoints`), Envoy's gauges (`envoy` and `requests`), or "
        "decisions minus ends in the access log (`requests`). A pool and the next larger one each need one. No "
        "effect in-proxy",
    )
    waiting: float = Field(
        5.0, gt=0, le=1_000_000, description="vLLM: number of waiting requests that saturates a server"
    )
    kv_use: float = Field(0.9, gt=0, le=1, description="vLLM: share of the KV cache in use that saturates a server")
    requests: dict[Name, Annotated[int, Field(ge=1, le=10_000_000, strict=True)]] = Field(
        {},
        max_length=1000,
        description="By pool name, the number of requests at once that saturates the pool: about its servers times "
        "--max-num-seqs. Needed for Envoy's gauges and the access log, which do not know where a queue begins",
    )
    envoy: tuple[HostPort, ...] = Field(
        (),
        max_length=64,
        description="HOST:PORT of the admin port of each Envoy in front of the pools. Their gauges are summed; "
        "clusters must be named as the pools",
    )
    leave: float = Field(
        0.75,
        gt=0,
        lt=1,
        description="A saturated pool takes requests again once it has fallen to this share of its mark",
    )
    interval_seconds: float = Field(1.0, ge=0.05, le=60, description="Time between two looks at the pools")
    stale_seconds: float = Field(
        10.0,
        ge=0.2,
        le=600,
        description="Age at which a figure is forgotten, at least twice `interval_seconds`. A pool whose load is "
        "unknown neither spills nor takes",
    )
    longest_request_seconds: float = Field(
        600.0,
        ge=10,
        le=3600,
        description="Access log: a request that has not ended after this long is counted as lost",
    )


class Config(Settings):
    """Everything Dualpool can be told."""

    server: Server = Server()
    pools: dict[Name, tuple[Pool, ...]] = Field(
        {DEFAULT_POOL_SET: (Pool(name="short", capacity=8192), Pool(name="long", capacity=131_072))},
        description="Pool sets by name, one of them `default`. Each is a list of pools, smallest first",
    )
    models: dict[str, Name] = Field(
        {}, description="Pool set for each model. Models not named here use `default`", max_length=1000
    )
    routing: Routing = Routing()
    categories: Categories = Categories()
    estimation: Estimation = Estimation()
    output: Output = Output()
    state: State = State()
    in_proxy: InProxy = InProxy()
    spillover: Spillover = Spillover()

    @field_validator("pools")
    @classmethod
    def _ordered(cls, pools: dict[str, tuple[Pool, ...]], info: ValidationInfo) -> dict[str, tuple[Pool, ...]]:
        if info.context is not None:  # kept for `_pools_of`, should they break a rule below
            info.context["pools"] = pools
        complain(pool_problems(pools, DEFAULT_POOL_SET))
        return pools

    @field_validator("models")
    @classmethod
    def _known(cls, models: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        pools = _pools_of(info)
        if pools is not None:
            complain(model_problems(models, pools))
        return models

    @field_validator("categories")
    @classmethod
    def _heard(cls, categories: Categories, info: ValidationInfo) -> Categories:
        complain(category_problems(info.data.get("routing"), categories))
        return categories

    @field_validator("in_proxy")
    @classmethod
    def _apart(cls, in_proxy: InProxy, info: ValidationInfo) -> InProxy:
        complain(file_problems(info.data.get("state"), in_proxy))
        return in_proxy

    @field_validator("spillover")
    @classmethod
    def _measurable(cls, spillover: Spillover, info: ValidationInfo) -> Spillover:
        pools = _pools_of(info)
        if pools is not None:
            complain(spillover_problems(spillover, pools))
        return spillover


def _pools_of(info: ValidationInfo) -> dict[str, tuple[Pool, ...]] | None:
    """Return the pool sets, even if they break a rule of their own; None where there are none."""
    found = {**info.data, **(info.context or {})}
    return found.get("pools")
