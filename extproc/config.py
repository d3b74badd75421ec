"""The one settings model: every key, its default, its bounds and what it means."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

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


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


REDIS_URL = re.compile(
    r"rediss?://([A-Za-z0-9._~%-]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?(/[0-9]{1,6})?"
)


class Tls(Settings):
    """TLS for the gRPC port. The files are read again when they change."""

    certificate: File = Field(description="PEM file with the server's certificate chain")
    key: File = Field(description="PEM file with its private key")
    client_ca: File | None = Field(
        None,
        description="PEM file of authorities; when set, only clients with their certificates are served (mTLS)",
    )


class Server(Settings):
    """Where the service listens."""

    listen: Listen = Field("127.0.0.1:50051", description="gRPC address: HOST:PORT or unix:///path/to.sock")
    admin: HostPort = Field("127.0.0.1:9902", description="HOST:PORT of /healthz, /readyz, /metrics and /state")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that answer, each on its own address: name-0.sock, name-1.sock ... or the next "
        "ports. All of them are to be endpoints of Envoy's cluster",
    )
    tls: Tls | None = Field(None, description="certificate, key and, for mTLS, client_ca; none: plain text")
    max_exchanges: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Calls open at once; more are refused, and Envoy sends those requests on without asking",
    )
    body_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long a call waits for the body of its request; a slower one goes to the largest pool",
    )
    lame_duck_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="On SIGTERM, how long exchanges are still accepted while health already fails",
    )
    drain_seconds: float = Field(
        5.0, ge=0, le=300, description="On SIGTERM, how long open exchanges may take to finish"
    )
    probe_limit_seconds: float = Field(
        0.1, gt=0, le=10, description="Health fails when a probe decision takes longer than this"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged")

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
        ge=16, le=100_000_000, description="Tokens one request may use in it, prompt and output: its max_model_len"
    )
    endpoints: tuple[HostPort, ...] = Field(
        (),
        max_length=1024,
        description="HOST:PORT of its vLLM servers, plain HTTP. Rendered as the pool's cluster in Envoy; read for "
        "/v1/models (does max_model_len equal the capacity?) and /metrics (is there room?). None: neither is read",
    )


class Routing(Settings):
    """How a pool is chosen and announced."""

    header: OwnHeaderName = Field("x-token-pool", description="Request header that carries the chosen pool")
    shadow: bool = Field(False, description="Decide and count, but send everything to the largest pool of its set")
    rollout_percent: float = Field(
        100.0, ge=0, le=100, description="Share of conversations that are split; the others go to the largest pool"
    )
    conversation_header: HeaderName | None = Field(
        None, description="Header that names a conversation; without it prompt_cache_key, user, or the request id"
    )
    sticky_long: bool = Field(
        False, description="Keep a conversation in the largest pool once it has been sent there"
    )

    @model_validator(mode="after")
    def _heard(self) -> Self:
        complain(taken_header("routing.conversation_header", self.conversation_header, self))
        return self


class Categories(Settings):
    """What figures are learned for. Each source can be left out."""

    sources: tuple[CategorySource, ...] = Field(
        ("model", "content"),
        description="model: figures per model. header: a request header names the category. content: the class of "
        "the text (latin, code, structured, cjk, other_script) is the category where no header names one",
    )
    header: HeaderName = Field(
        "x-token-category", description="Header read when `header` is among the sources; not that of routing"
    )
    allowed: tuple[Name, ...] = Field(
        (),
        description="Categories the header may name, at least one with `header`; any other value is ignored",
        max_length=256,
    )
    limit: int = Field(
        256, ge=4, le=4096, description="Learned figures of each kind kept; the least recently used is dropped"
    )


class Estimation(Settings):
    """From text to prompt tokens."""

    estimator: Literal["linear", "ratio"] = Field(
        "linear",
        description="linear: what each kind of byte costs, per model. ratio: bytes per token, per category. Bodies "
        "that stay in Envoy (exchanges bodyless and in-proxy) have only the ratio",
    )
    misroute_percent: float = Field(
        0.1,
        gt=0,
        le=50,
        description="Share of all requests that may be sent to a pool which does not hold them. The output reserve "
        "follows from it, and with `linear` the margin above an estimate, from the errors seen",
    )
    prior_bytes_per_token: float = Field(
        3.0, ge=0.5, le=16, description="Bytes per token that the ratio starts from; lower is more careful"
    )
    smoothing: float = Field(
        0.05, gt=0, le=1, description="Weight of a new observation in the ratio's moving averages (alpha)"
    )
    deviations: float = Field(
        2.0, ge=0, le=10, description="ratio: standard deviations subtracted to be on the safe side (z)"
    )
    min_samples: int = Field(
        20, ge=1, le=1_000_000, description="Observations before a learned figure replaces a more general one"
    )
    tokens_per_message: float = Field(
        4.0, ge=0, le=100, description="ratio: tokens the chat template adds to each message"
    )
    tokens_per_media: int = Field(
        1500, ge=0, le=1_000_000, description="Tokens assumed for an image, audio clip or file"
    )
    answers_percent: float = Field(
        100.0,
        ge=0,
        le=100,
        description="Share of answers read for their usage once a figure is learned (not with the access log)",
    )


class Output(Settings):
    """Output tokens set aside for requests that state no cap."""

    quantile: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Quantile of completions that is reserved; none: what estimation.misroute_percent asks for",
    )
    min_samples: int = Field(
        100, ge=1, le=1_000_000, description="Completions seen before what they say is used; until then: long"
    )
    default: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="Tokens reserved until enough completions are seen, instead of going long",
    )


class InProxy(Settings):
    """The filter that decides inside the proxy, written for Envoy to load."""

    file: FilterFile | None = Field(
        None,
        description="File (.yaml, .yml, .json) that Envoy watches (config_discovery), on a volume both see; none: "
        "not written",
    )
    interval_seconds: float = Field(3.0, ge=0.1, le=3600, description="Least time between two writes")
    step: float = Field(
        0.02, ge=0, le=1, description="Written only when a figure has moved by more than this share of itself"
    )


class Redis(Settings):
    """A server that speaks the Redis protocol, through which replicas share what they learn."""

    url: str = Field(description="redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS; without a password")
    password: SecretStr | None = Field(
        None, description="Best given as DUALPOOL_STATE__REDIS__PASSWORD, which is taken letter by letter"
    )
    name: str = Field(
        "dualpool", min_length=1, max_length=512, description="Key in Redis; who shares it shares what is learned"
    )
    ca: File | None = Field(None, description="PEM file of authorities for TLS; none: those of the system")
    certificate: File | None = Field(None, description="PEM file with our certificate, if the server wants one")
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
        None, description="File that keeps what is learned over restarts; its directory must be writable"
    )
    redis: Redis | None = Field(
        None,
        description="A server through which replicas share what they learn, as its url and more; none: each learns "
        "alone. Needs the extra `redis`",
    )
    interval_seconds: float = Field(
        1.0, ge=0.1, le=300, description="Time between two exchanges with file and Redis: what a kill loses at most"
    )
    half_life_hours: float = Field(
        168.0, gt=0, le=87_600, description="Age at which kept figures count for half as many observations"
    )


class Spillover(Settings):
    """A saturated pool passes requests to the next larger one while that has room."""

    enabled: bool = Field(
        False,
        description="Watch how full the pools are and spill. By the first that is known of a pool: vLLM's metrics "
        "(`pools.*.endpoints`), Envoy's gauges (`envoy`), decisions less ends told by the access log (`requests`). "
        "A pool and the next larger one both need one of them",
    )
    waiting: float = Field(
        5.0, gt=0, le=1_000_000, description="vLLM: requests waiting at a server that saturate it"
    )
    kv_use: float = Field(0.9, gt=0, le=1, description="vLLM: share of the KV cache in use that saturates a server")
    requests: dict[Name, Annotated[int, Field(ge=1, le=10_000_000)]] = Field(
        {},
        max_length=1000,
        description="Requests in a pool at once that saturate it, by its name: about its servers times "
        "--max-num-seqs. For Envoy's gauges and the access log, which do not know where a queue begins",
    )
    envoy: tuple[HostPort, ...] = Field(
        (),
        max_length=64,
        description="HOST:PORT of the admin port of each Envoy in front of the pools, clusters named as pools; "
        "their gauges are summed",
    )
    leave: float = Field(0.75, gt=0, lt=1, description="Share of these marks to which a saturated pool has to fall")
    interval_seconds: float = Field(1.0, ge=0.05, le=60, description="Time between two looks")
    stale_seconds: float = Field(
        10.0,
        ge=0.2,
        le=600,
        description="Age at which a figure is forgotten, at least twice `interval_seconds`; a pool of which "
        "nothing is known neither spills nor takes",
    )
    longest_request_seconds: float = Field(
        600.0,
        ge=10,
        le=3600,
        description="Access log: a request that has not ended after so long is taken for lost",
    )


class Config(Settings):
    """Everything Dualpool can be told."""

    server: Server = Server()
    pools: dict[Name, tuple[Pool, ...]] = Field(
        {DEFAULT_POOL_SET: (Pool(name="short", capacity=8192), Pool(name="long", capacity=131_072))},
        description="Pool sets by name, one of them `default`; each a list of pools, smallest first",
    )
    models: dict[str, Name] = Field(
        {}, description="Pool set of a model; models not named here use `default`", max_length=1000
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
