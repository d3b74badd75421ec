"""The one settings model: every key, its default, its bounds and what it means."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from extproc.config_rules import (
    address_problems,
    category_problems,
    complain,
    file_problems,
    model_problems,
    pool_problems,
    spillover_problems,
    taken_header,
)
from extproc.config_types import File, FilterFile, HeaderName, HostPort, Listen, Name, OwnHeaderName, host_and_port

DEFAULT_POOL_SET = "default"

CategorySource = Literal["header", "model", "content"]


_NUMBERS = (int, float, int | None, float | None)


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """`output.default: off` means none, and would be 0; `rollout_percent: on` would be one percent."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in _NUMBERS:
            raise PydanticCustomError("number", "must be a number")
        return value


REDIS_URL = re.compile(
    r"rediss?://([A-Za-z0-9._~%-]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?(/[0-9]{1,6})?"
)


class Tls(Settings):
    """TLS for the gRPC port. The files are read again when they change."""

    certificate: File = Field(description="PEM file with the server's certificate chain")
    key: File = Field(description="PEM file with its private key")
    client_ca: File | None = Field(
        None,
        description="PEM file of certificate authorities. If set, only clients with a certificate of theirs are "
        "served (mTLS)",
    )


class Server(Settings):
    """Where the service listens."""

    listen: Listen = Field("127.0.0.1:50051", description="gRPC address: HOST:PORT or unix:///path/to.sock")
    admin: HostPort = Field("127.0.0.1:9902", description="HOST:PORT of /healthz, /readyz, /metrics and /state")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of worker processes. Above 1, each listens on its own address (the next ports, or "
        "name-0.sock, name-1.sock ...): list all of them as endpoints of Envoy's cluster",
    )
    tls: Tls | None = Field(
        None, description="TLS for the gRPC port: certificate, key and, for mTLS, client_ca. Without it: plain text"
    )
    max_exchanges: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Most calls open at once, those of health checks and of the access log included. Further ones "
        "are refused, and Envoy sends their requests to the largest pool",
    )
    body_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long to wait for the body of a request before sending it to the largest pool",
    )
    lame_duck_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="After SIGTERM, how long new exchanges are still accepted while health checks already fail",
    )
    drain_seconds: float = Field(
        5.0, ge=0, le=300, description="After that, how long open exchanges may take to finish"
    )
    probe_limit_seconds: float = Field(
        0.1, gt=0, le=10, description="Health checks fail if a probe decision takes longer than this"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged"
    )

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        complain(address_problems(self.listen, self.admin, self.workers))
        return self

    @property
    def admin_address(self) -> tuple[str, int]:
        """Host and port of `admin`."""
        return host_and_port(self.admin)


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


class InProxy(Settings):
    """The filter that decides inside the proxy, written for Envoy to load."""

    file: FilterFile | None = Field(
        None,
        description="File (.yaml, .yml, .json) to write, on a volume shared with Envoy, which watches it "
        "(config_discovery). Without it no filter is written",
    )
    interval_seconds: float = Field(3.0, ge=0.1, le=3600, description="Shortest time between two writes")
    step: float = Field(
        0.02, ge=0, le=1, description="Write only when a figure has moved by more than this share of itself"
    )


class Redis(Settings):
    """A server that speaks the Redis protocol, through which replicas share what they learn."""

    url: str = Field(
        description="redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS. Without the password"
    )
    password: SecretStr | None = Field(
        None, description="Best set as DUALPOOL_STATE__REDIS__PASSWORD, which is taken literally, not as YAML"
    )
    name: str = Field(
        "dualpool",
        min_length=1,
        max_length=512,
        description="Key in Redis. Replicas with the same key share what they learn",
    )
    ca: File | None = Field(
        None, description="PEM file of certificate authorities for TLS. Without it: those of the system"
    )
    certificate: File | None = Field(
        None, description="PEM file with the client certificate, if the server wants one"
    )
    certificate_key: File | None = Field(None, description="PEM file with its private key")

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        found = REDIS_URL.fullmatch(url)
        if found is None:
            raise ValueError(
                "state.redis.url: must be redis://[USER@]HOST[:PORT][/DATABASE] or rediss://..., without "
                "options and without a password (that is DUALPOOL_STATE__REDIS__PASSWORD)"
            )
        if not 0 < int(found["port"] or 6379) <= 65_535:
            raise ValueError("state.redis.url: its port must be 1 to 65535")
        return url

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.ca or self.certificate) and not self.url.startswith("rediss:"):
            raise ValueError(f"state.redis: {self.url}: ca and certificate are for rediss://")
        if (self.certificate is None) is not (self.certificate_key is None):
            raise ValueError("state.redis: certificate and certificate_key go together")
        return self


class State(Settings):
    """Where learned figures are kept and shared."""

    file: File | None = Field(
        None, description="File that keeps what is learned across restarts. Its directory must be writable"
    )
    redis: Redis | None = Field(
        None,
        description="Redis, or a server that speaks its protocol, through which replicas share what they learn. "
        "Without it each learns alone. Needs the extra `redis`",
    )
    interval_seconds: float = Field(
        1.0,
        ge=0.1,
        le=300,
        description="Time between two exchanges with file and Redis (workers: with Redis every 0.5 s). A kill "
        "loses at most this much",
    )
    half_life_hours: float = Field(
        168.0,
        gt=0,
        le=87_600,
        description="Age at which stored figures count for half as many observations when they are read at a start",
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
