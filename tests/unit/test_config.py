"""Rules of `extproc.config`."""

from pathlib import Path

import pytest

from extproc.config import Config
from extproc.config_file import ConfigError, load, require_extras
from extproc.config_service import Server


def loaded(tmp_path: Path, text: str, **environment: str) -> Config:
    """Load a file that holds `text`."""
    file = tmp_path / "dualpool.yaml"
    file.write_text(text, "utf-8")
    return load(file, environment)


def problems(tmp_path: Path, text: str, **environment: str) -> list[str]:
    """What is wrong with such a file, which is called FILE."""
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text, **environment)
    return [problem.replace(str(tmp_path / "dualpool.yaml"), "FILE") for problem in raised.value.problems]


def test_defaults_work_without_a_file() -> None:
    """No file and no variable are needed."""
    assert load(None, {}) == Config()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """A file of comments alone is valid."""
    assert loaded(tmp_path, "# nothing\n") == Config()


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    """As it is when all of its keys are comments."""
    assert loaded(tmp_path, "routing:\n  # shadow: true\nmodels:\n") == Config()


FAULTS = [
    ("routing: {shadow: maybe}", "FILE: routing.shadow: 'maybe': must be true or false"),
    ("routing: {colour: red}", "FILE: routing.colour: unknown key"),
    ("routing: {rollout_percent: on}", "FILE: routing.rollout_percent: True: must be a number"),
    ("output: {default: off}", "FILE: output.default: False: must be a number"),
    ("spillover: {requests: {short: yes}}", "FILE: spillover.requests.short: True: must be a whole number"),
    ("routing: {shadows: true}", "FILE: routing.shadows: unknown key; did you mean shadow?"),
    ("rooting: {}", "FILE: rooting: unknown key; did you mean routing?"),
    ("routing: [1]", "FILE: routing: [1]: must be keys and values"),
    ("pools: {default: 5}", "FILE: pools.default: 5: must be a list"),
    ("nonsense: 1", "FILE: nonsense: unknown key"),
    ("server: {listen: nowhere}", "FILE: server.listen: 'nowhere': must be HOST:PORT"),
    ("server: {admin: 'a:65536'}", "FILE: server.admin: 'a:65536': Port should be less than or equal to 65535"),
    ("server: {admin: '127.0.0.1'}", "FILE: server.admin: '127.0.0.1': must be HOST:PORT"),
    ("routing: {rollout_percent: 101}", "FILE: routing.rollout_percent: 101: Input should be less than or equal"),
    ("server: {listen: 'unix://tmp/x'}", "FILE: server.listen: 'unix://tmp/x': a socket must be unix:///PATH"),
    (
        "server: {listen: 'unix:///a%20b'}",
        "FILE: server.listen: 'unix:///a%20b': a socket must be unix:///PATH, without %",
    ),
    (
        f"server: {{listen: 'unix:///{'x' * 105}'}}",
        f"FILE: server.listen: 'unix:///{'x' * 105}': may have 107 bytes after unix:",
    ),
    (
        f"server: {{listen: 'unix:///{'x' * 102}', workers: 11}}",
        f"FILE: server.listen: 'unix:///{'x' * 102}': may have 104 bytes after unix:",
    ),
    (
        "server: {listen: '127.0.0.1:65500', workers: 64}",
        "FILE: server.listen: '127.0.0.1:65500': 64 workers need a socket, or that many ports",
    ),
    (
        "server: {listen: '127.0.0.1:9900', admin: '127.0.0.1:9902', workers: 3}",
        "FILE: server.admin: '127.0.0.1:9902': server.listen takes ports 9900 to 9902 (server.workers: 3)",
    ),
    (
        "server: {listen: '0.0.0.0:9902'}",
        "FILE: server.admin: '127.0.0.1:9902': server.listen takes port 9902; take another",
    ),
    ("state: {file: /}", "FILE: state.file: '/': must be the path of a file"),
    (
        "in_proxy: {file: /f/filter.txt}",
        "FILE: in_proxy.file: '/f/filter.txt': must end in .yaml, .yml or .json: by that",
    ),
    ("routing: {header: host}", "FILE: routing.header: 'host': must be a header of its own"),
    ("routing: {header: 'a b'}", "FILE: routing.header: 'a b': must be the name of a header, in lower case"),
    ("pools: {default: []}", "FILE: pools.default: []: a set needs at least one pool"),
    ("pools: {other: [{name: a, capacity: 99}]}", "FILE: pools: ['other']: one set must be named 'default'"),
    (
        "pools: {default: [{name: a, capacity: 99}, {name: b, capacity: 99}]}",
        "FILE: pools.default: [99, 99]: capacities must increase, smallest pool first",
    ),
    (
        "pools: {default: [{name: a, capacity: 98}, {name: a, capacity: 99}]}",
        "FILE: pools.default: ['a', 'a']: pool names must differ",
    ),
    ("pools: {default: [{name: a}]}", "FILE: pools.default.0.capacity: is missing"),
    ("models: {llama: huge}", "FILE: models.llama: 'huge': no such pool set; there are ['default']"),
    ("categories: {sources: [moon]}", "FILE: categories.sources.0: 'moon': Input should be"),
    (
        "spillover: {requests: {tiny: 9}}",
        "FILE: spillover.requests.tiny: 9: no such pool; there are ['long', 'short']",
    ),
    ("spillover: {leave: 1}", "FILE: spillover.leave: 1: Input should be less than 1"),
    (
        "spillover: {envoy: ['127.0.0.1:9901']}",
        "FILE: spillover.requests: {}: Envoy's gauges say nothing without it",
    ),
    (
        "spillover: {enabled: true}",
        "FILE: spillover.enabled: true: nothing says how full a pool is that has a larger one: name its",
    ),
    (
        "spillover: {enabled: true, requests: {long: 9}}",
        "FILE: spillover.enabled: true: nothing says how full a pool is that has a larger one: name its servers",
    ),
    (
        "spillover: {enabled: true, requests: {short: 9}}",
        "FILE: spillover.enabled: true: nothing says how full long is, so it would take nothing from short: name",
    ),
    (
        "spillover: {enabled: true, requests: {short: 9, long: 9}, stale_seconds: 1.9}",
        "FILE: spillover.stale_seconds: 1.9: must be at least 2 times spillover.interval_seconds (1), or nothing",
    ),
    (
        "routing: {header: x-category}\ncategories: {sources: [header], allowed: [a], header: x-category}",
        "FILE: categories.header: 'x-category': is routing.header, which no client can set: name another",
    ),
    (
        "routing: {conversation_header: x-token-pool}",
        "FILE: routing.conversation_header: 'x-token-pool': is routing.header, which no client can set: name",
    ),
    (
        "categories: {sources: [header]}",
        "FILE: categories.allowed: []: with `header` among categories.sources, name",
    ),
    (
        "state: {file: /f/both.yaml}\nin_proxy: {file: /f/both.yaml}",
        "FILE: in_proxy.file: '/f/both.yaml': is state.file too: name another for the filter",
    ),
    ("- a list", "FILE: holds a list: must be a mapping of sections"),
    ("routing: {shadow: [", "FILE: is not YAML:"),
]


@pytest.mark.parametrize(
    ("listen", "admin", "workers"),
    [
        ("127.0.0.1:9900", "127.0.0.1:9902", 2),
        ("127.0.0.1:9900", "127.0.0.2:9901", 2),
        ("127.0.0.1:0", "127.0.0.1:0", 1),
        ("127.0.0.1:9900", "127.0.0.1:0", 4),
        ("127.0.0.1:65532", "127.0.0.1:9902", 4),
        ("unix:///run/9902", "127.0.0.1:9902", 4),
        (f"unix:///{'x' * 104}", "127.0.0.1:9902", 1),
        (f"unix:///{'x' * 101}", "127.0.0.1:9902", 11),
    ],
)
def test_addresses_that_keep_apart_are_taken(listen: str, admin: str, workers: int) -> None:
    """Other ports, other addresses, ports that the kernel picks, sockets."""
    assert Server(listen=listen, admin=admin, workers=workers).workers == workers


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_each_fault_names_file_key_value_and_rule(tmp_path: Path, text: str, message: str) -> None:
    """One fault, one line that says where it is and what is wrong."""
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "spillover: {enabled: true, requests: {short: 9, long: 9}, stale_seconds: 2}",
        "spillover: {requests: {short: 9}, stale_seconds: 1}",
        "pools: {default: [{name: a, capacity: 98, endpoints: ['a:1']}, "
        "{name: b, capacity: 99, endpoints: ['b:1']}], other: [{name: c, capacity: 99}]}\n"
        "spillover: {enabled: true}",
    ],
)
def test_spillover_that_can_act_or_is_off_is_taken(tmp_path: Path, text: str) -> None:
    """A set of one pool needs no source."""
    loaded(tmp_path, text)


def test_every_problem_is_listed(tmp_path: Path) -> None:
    """Problems of different sections and of the environment come out together."""
    text = "routing: {shadow: maybe}\nmodels: {llama: huge}\nserver: {drain_seconds: -1}"
    found = problems(tmp_path, text, DUALPOOL_ROUTING__ROLLOUT_PERCENT="101", DUALPOOL_TYPO="1")
    assert len(found) == 5
    assert any(line.startswith("DUALPOOL_ROUTING__ROLLOUT_PERCENT: routing.rollout_percent: 101") for line in found)
    assert "DUALPOOL_TYPO: typo: unknown key" in found


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    """A path that cannot be read is said by name."""
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load(tmp_path / "gone.yaml", {})


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, and other variables are left alone."""
    environment = {"DUALPOOL_ROUTING__SHADOW": "true", "DUALPOOL_SERVER__ADMIN": "127.0.0.1:1", "PATH": "/bin"}
    config = loaded(tmp_path, "routing: {shadow: false, rollout_percent: 5}\nserver:", **environment)
    assert (config.routing.shadow, config.routing.rollout_percent) == (True, 5)
    assert config.server.admin_address == ("127.0.0.1", 1)


def test_a_variable_that_is_not_yaml_is_a_problem() -> None:
    """The variable is named, not the file. An address of IPv6 needs no quotes."""
    assert load(None, {"DUALPOOL_SERVER__LISTEN": "[::1]:0"}).server.listen == "[::1]:0"
    with pytest.raises(ConfigError, match=r"DUALPOOL_ROUTING__SHADOW: is not YAML: .* line 1, column 2"):
        load(None, {"DUALPOOL_ROUTING__SHADOW": "["})


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("server: [1]", {"DUALPOOL_SERVER__WORKERS": "1"}, "DUALPOOL_SERVER__WORKERS: server"),
        ("", {"DUALPOOL_ROUTING": "5", "DUALPOOL_ROUTING__SHADOW": "true"}, "DUALPOOL_ROUTING__SHADOW: routing"),
        (
            "pools: {default: [{}]}",
            {"DUALPOOL_POOLS__DEFAULT__0__NAME": "a"},
            "DUALPOOL_POOLS__DEFAULT__0__NAME: pools.default",
        ),
    ],
)
def test_a_variable_does_not_hide_a_wrong_section(
    tmp_path: Path, text: str, environment: dict[str, str], named: str
) -> None:
    """A key of what is no section cannot be set; the first that is none is named."""
    found = problems(tmp_path, text, **environment)
    assert [line.partition(" is")[0] for line in found if "is set to something else" in line] == [named]
    assert len(found) > 1


@pytest.mark.parametrize("name", ["x-envoy-pool", "authorization", "cookie", "x-request-id", "content-length"])
def test_a_header_that_others_need_is_not_the_routing_header(name: str) -> None:
    """Its value would be lost, or Envoy would let nobody set it."""
    with pytest.raises(ConfigError, match=r"routing\.header"):
        load(None, {"DUALPOOL_ROUTING__HEADER": name})


@pytest.mark.parametrize(
    ("text", "where"),
    [(None, "DUALPOOL_SPILLOVER__ENABLED"), ("output: {quantile: 0.9}", "FILE, DUALPOOL_SPILLOVER__ENABLED")],
)
def test_a_rule_of_a_section_names_the_variables_that_set_some_of_it(
    tmp_path: Path, text: str | None, where: str
) -> None:
    """Not the defaults, of which nothing is wrong."""
    file = tmp_path / "dualpool.yaml"
    file.write_text(text or "", "utf-8")
    with pytest.raises(ConfigError) as raised:
        load(file if text else None, {"DUALPOOL_SPILLOVER__ENABLED": "true"})
    (problem,) = raised.value.problems
    assert problem.replace(str(file), "FILE").startswith(f"{where}: spillover.enabled: true: ")


def test_a_redis_is_named_by_url() -> None:
    """The password comes from the environment, letter by letter, and is not shown."""
    environment = {
        "DUALPOOL_STATE__REDIS__URL": "rediss://me@redis.example:6380/2",
        "DUALPOOL_STATE__REDIS__PASSWORD": "0123: {yes",
    }
    found = load(None, environment).state.redis
    assert found is not None
    assert found.password is not None
    assert found.password.get_secret_value() == "0123: {yes"
    assert "0123" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        (
            "REDIS__URL",
            "redis://:sesame@host:6379",
            "state.redis.url: must be redis://[USER@]HOST[:PORT][/DATABASE]",
        ),
        ("REDIS__URL", "http://sesame", "state.redis.url: must be redis://"),
        ("REDIS__URL", "redis://sesame:65536", "state.redis.url: its port must be 1 to 65535"),
        ("REDIS__URL", "redis://sesame:0/1", "state.redis.url: its port must be 1 to 65535"),
        ("REDIS__URL", "redis://host?ssl_cert_reqs=sesame", "state.redis.url: must be redis://"),
        ("REDIS__URL", "redis://:{sesame: [", "is not YAML"),
        ("REDIS", "redis://:sesame@host", "state.redis: must be keys and values"),
        ("REDIS", "{url: 'redis://a', name: [sesame]}", "state.redis.name: must be text"),
        ("REDIS__NAME", "sesame", "state.redis.url: is missing"),
        (
            "REDIS",
            "{url: 'rediss://a', certificate: sesame}",
            "state.redis: certificate and certificate_key go together",
        ),
        ("REDIS", "{url: 'redis://a', ca: sesame}", "state.redis: redis://a: ca and certificate are for rediss://"),
    ],
)
def test_a_redis_that_cannot_be_used_is_a_problem_that_shows_no_secret(
    variable: str, text: str, problem: str
) -> None:
    """Whatever was set in the wrong place may have been a password."""
    with pytest.raises(ConfigError) as raised:
        load(None, {f"DUALPOOL_STATE__{variable}": text})
    assert raised.value.problems[0].startswith(f"DUALPOOL_STATE__{variable}: {problem}")
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        *("@sesame", "%sesame", "'sesame", '"sesame', "{sesame", "[sesame", "sesame: x", "- sesame"),
        *("*sesame", "!sesame x", "!sesame!x y", "!!int sesame", "!!binary sesame", "&sesame [&sesame x]"),
        *("|sesame", ">sesame", "`sesame", "sesame\n    password: sesame", "\x07sesame", "!<sesame"),
    ],
)
def test_a_password_that_breaks_the_yaml_is_not_shown(tmp_path: Path, value: str) -> None:
    """Where the document is wrong is said by line and column alone; a value of `state` may hold the password."""
    broken = f"state:\n  redis:\n    url: redis://h\n    password: {value}\n"
    assert "sesame" not in str(problems(tmp_path, broken))
    assert "sesame" not in str(problems(tmp_path, "", DUALPOOL_STATE=broken.partition("\n")[2]))


@pytest.mark.parametrize("text", ["state: [{redis: {password: sesame}}]", "state: {redis: {password:sesame}}"])
def test_a_password_in_a_wrong_place_is_not_shown(tmp_path: Path, text: str) -> None:
    """A section that is a list is not printed, nor a key that a missing space makes of the password."""
    (problem,) = [each for each in problems(tmp_path, text) if "url" not in each or "takes" in each]
    assert problem.startswith("FILE: state")
    assert "sesame" not in problem


def test_a_syntax_error_is_placed(tmp_path: Path) -> None:
    """What is wrong, line and column."""
    assert problems(tmp_path, "routing:\n  shadow: @yes") == [
        "FILE: is not YAML: while scanning for the next token: found character '@' that cannot start any token, "
        "line 2, column 11"
    ]


@pytest.mark.parametrize(
    ("admin", "address"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("host:0", ("host", 0))]
)
def test_admin_address(admin: str, address: tuple[str, int]) -> None:
    """IPv6 addresses stand in brackets."""
    assert load(None, {"DUALPOOL_SERVER__ADMIN": f'"{admin}"'}).server.admin_address == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pools: " + "{" * 2000, "is nested too deeply to be read"),
        ("server: 2001-99-99", "is not YAML: the value is no timestamp, line 1, column 9"),
        ("routing: {shadow: true}\nrouting: {sticky_long: true}", "is not YAML: the key 'routing' is there twice"),
        ("server: !!int ''", "is not YAML: the value is no int"),
        ("server: !!bool foo", "is not YAML: the value is no bool"),
    ],
)
def test_what_the_yaml_reader_chokes_on_is_a_problem_of_the_file(tmp_path: Path, text: str, problem: str) -> None:
    """No file makes loading end with anything but a list of problems; a reload relies on it."""
    assert problems(tmp_path, text)[0].startswith(f"FILE: {problem}")


def test_a_problem_is_short_however_large_the_value(tmp_path: Path) -> None:
    """Nine aliases of nine aliases, eight times, are 43 million entries."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 8)]
    found = problems(tmp_path, "\n".join([*levels, "models: *a7", "routing: {shadow: *a7}"]))
    assert max(map(len, found)) < 1000


def test_keys_that_are_merged_may_be_overridden(tmp_path: Path) -> None:
    """Only what is written twice is refused."""
    found = loaded(
        tmp_path,
        "output: {<<: &a {default: 7, min_samples: 3}, default: 8}\n"
        "estimation: {<<: &b {<<: {min_samples: 5}, min_samples: 6}}\ncategories: {<<: {limit: 9}}\n",
    )
    assert (found.output.default, found.output.min_samples, found.estimation.min_samples) == (8, 3, 6)


def test_variables_that_kubernetes_sets_are_no_settings() -> None:
    """Services that are called dualpool and dualpool-redis make them in every pod beside them."""
    environment = {
        "DUALPOOL_SERVICE_HOST": "10.96.0.7",
        "DUALPOOL_SERVICE_PORT": "50051",
        "DUALPOOL_SERVICE_PORT_GRPC": "50051",
        "DUALPOOL_PORT": "tcp://10.96.0.7:50051",
        "DUALPOOL_PORT_50051_TCP_ADDR": "10.96.0.7",
        "DUALPOOL_REDIS_SERVICE_HOST": "10.96.0.8",
        "DUALPOOL_REDIS_PORT": "tcp://10.96.0.8:6379",
        "DUALPOOL_REDIS_PORT_6379_TCP_PROTO": "tcp",
    }
    assert load(None, environment) == load(None, {})


@pytest.mark.parametrize("variable", ["DUALPOOL_SERVER__PORT", "DUALPOOL_PORTS", "DUALPOOL_SERVICE"])
def test_variables_like_them_are_settings(variable: str) -> None:
    """What Kubernetes would not set is somebody's mistake."""
    with pytest.raises(ConfigError, match=variable):
        load(None, {variable: "1"})


@pytest.mark.parametrize("installed", [True, False])
def test_redis_asks_for_its_package(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    """Before anything is served: without it the first exchange would fail."""
    monkeypatch.setattr("extproc.config_file.find_spec", lambda _: object() if installed else None)
    require_extras(Config())
    config = load(None, {"DUALPOOL_STATE__REDIS__URL": "redis://host"})
    if installed:
        require_extras(config)
    else:
        with pytest.raises(ConfigError, match="needs the package redis"):
            require_extras(config)


@pytest.mark.parametrize("model", ["nosuchset", "'bad name!'"])
def test_a_wrong_pool_hides_nothing_that_names_pools(tmp_path: Path, model: str) -> None:
    """All is to be put right in one go."""
    pools = "[{name: a, capacity: 9000}, {name: b, capacity: 8000}]"
    text = f"pools: {{default: {pools}}}\nmodels: {{m: {model}}}\nspillover: {{requests: {{c: 5}}}}"
    assert [line.split(": ")[1] for line in problems(tmp_path, text)] == [
        "pools.default",
        "models.m",
        "spillover.requests.c",
    ]
