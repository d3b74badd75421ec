"""What is fuzzed: every parser that reads what others wrote, with good inputs to start from.

A target takes bytes and must not raise. Beside the seeds here stands the kept corpus (`tests.fuzz.corpus`).
"""

import json
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from extproc.body.sse import EventStream
from extproc.body.usage import Report
from extproc.config import Spillover
from extproc.config_file import ConfigError, load
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.in_flight import InFlight
from extproc.routing.router import Head
from extproc.routing.spillover import by_servers
from extproc.service.access_log import AccessLog
from extproc.service.exchange import Exchange
from extproc.service.pressure import read_clusters, read_servers
from extproc.state.codec import BadStateError, decode, encode, faded
from tests.unit.body.test_bounds import SHAPES
from tests.unit.budget.figures import figure
from tests.unit.service.test_access_log import REQUEST, USAGE, entry, message
from tests.unit.service.test_exchange import Harness, answer_headers, headers
from tests.unit.service.test_pressure import VLLM as METRICS

PATHS = ("chat/completions", "completions", "responses", "messages", "embeddings", "score", "rerank")

BODIES = [
    {"model": "m", "messages": [{"role": "user", "content": "How are you? 你好"}], "max_tokens": 5, "stream": True},
    {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
    },
    {
        "messages": [{"tool_calls": [{"function": {"name": "f", "arguments": '{"a": [1.5]}'}}]}],
        "tools": [{"a": {}}],
    },
    {"model": "m", "prompt": ["a", [1, 2], 3], "suffix": "b", "n": 2, "max_tokens": None},
    {"input": [{"type": "function_call_output", "output": "x"}], "instructions": "y", "max_output_tokens": 9},
    {
        "system": [{"text": "s"}],
        "messages": [{"content": [{"type": "tool_result", "content": "r"}]}],
    },
    {"query": "q", "documents": ["d", "e"], "text_1": "t", "text_2": ["u"]},
    {
        "queries": [{"content": [{"text": "q"}, {"type": "image_url"}]}],
        "items": ["d", {"content": [{"text": "e"}]}],
    },
    {
        "messages": [{"role": "developer", "content": ["a", {"text": "b"}], "tools": [{"type": "function"}]}],
        "documents": [{"text": "c"}],
        "chat_template": "{{ d }}",
        "chat_template_kwargs": {"enable_thinking": False},
        "truncate_prompt_tokens": 512,
        "max_tokens": "64",
    },
    {"input": "x", "tools": [{"type": "web_search"}], "truncation": "auto", "previous_input_messages": [{}]},
    {
        "input": [
            {"type": "reasoning", "summary": [{"text": "a"}], "content": [{"text": "b"}]},
            {"type": "shell_call", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "output": [{"stdout": "c"}]},
            {"type": "item_reference"},
        ]
    },
    {
        "messages": [
            {"reasoning": "a", "content": [{"type": "thinking", "thinking": "b"}]},
            {"content": [{"type": "document", "source": {"type": "text", "data": "c", "content": []}}]},
        ]
    },
    {"prompt": "", "prompt_embeds": "QUJD", "max_tokens": 5.0},
]
ANSWERS = [
    {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}},
    {"type": "message_start", "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 4}}},
    {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}},
    {"choices": [{"finish_reason": "length"}], "response": {"incomplete_details": {"reason": "max_output_tokens"}}},
]
CONFIG = b"""
server: {listen: "unix:///run/a.sock", workers: 2}
pools:
  default: [{name: short, capacity: 8192}, {name: long, capacity: 131072}]
models: {m: default}
categories: {sources: [header], allowed: [a, b]}
state: {file: /tmp/state.json, interval_seconds: 2}
"""


MESSAGES = [
    pb.ProcessingRequest(request_headers=headers({":method": "POST", ":path": "/v1/messages"})),
    pb.ProcessingRequest(request_body=pb.HttpBody(body=json.dumps(BODIES[0]).encode(), end_of_stream=True)),
    pb.ProcessingRequest(response_headers=answer_headers()),
    pb.ProcessingRequest(response_body=pb.HttpBody(body=json.dumps(ANSWERS[0]).encode(), end_of_stream=True)),
]


@dataclass(frozen=True)
class Target:
    """`share`: of all inputs. `decides`: what it does counts as a decision, whose time is bounded."""

    name: str
    run: Callable[[bytes, random.Random], None]
    seeds: list[bytes]
    share: float
    decides: bool = False


class Service:
    """One service that goes on living from input to input, and its parsers one by one."""

    def __init__(self) -> None:
        pools = [{"name": "short", "capacity": 400_000}, {"name": "long", "capacity": 1_000_000}]
        self._harness = Harness(pools={"default": pools})
        self._logged = msgspec.structs.replace(self._harness.context, in_flight=InFlight("a"))

    def decide(self, data: bytes, source: random.Random) -> None:
        """A request body, under any path."""
        self._harness.context.router.decide(Head("POST", f"/v1/{source.choice(PATHS)}"), data, whole=True)

    def take_log(self, data: bytes, _: random.Random) -> None:
        """An access-log message."""
        deque(AccessLog(lambda: self._logged).take(data), 0)

    def exchange(self, data: bytes, source: random.Random) -> None:
        """A message of an exchange, after some good ones. An exchange that failed has swallowed an exception."""
        stream = Exchange(self._harness.context)
        for good in MESSAGES[: source.randrange(4)]:
            stream.handle(good.SerializeToString())
        stream.handle(data)
        stream.close()
        assert stream._end != "failed"

    def read_state(self, data: bytes, _: random.Random) -> None:
        """A state file."""
        try:
            stored = decode(data)
        except BadStateError:
            return
        self._harness.learner.adopt(faded(stored, 2000.0, 3600.0))


def read_answer(data: bytes, _: random.Random) -> None:
    """A JSON answer, or one event's data."""
    report = Report()
    report.read(data)
    repr(report.usage)


def read_stream(data: bytes, source: random.Random) -> None:
    """A stream of events, in pieces of any size."""
    report = Report()
    stream = EventStream(report, limit=4096)
    while data:
        size = source.choice((1, 7, 100, 5000))
        stream.feed(data[:size])
        data = data[size:]
    stream.close()
    repr(report.usage)


def read_config(data: bytes, _: random.Random) -> None:
    """A configuration file."""
    with TemporaryDirectory() as name:
        (Path(name) / "c.yaml").write_bytes(data[:2048])
        with suppress(ConfigError):
            load(Path(name) / "c.yaml", {})


def read_pressure(data: bytes, _: random.Random) -> None:
    """A page of vLLM's metrics, or of Envoy's statistics."""
    with suppress(ValueError):
        by_servers(read_servers(data), Spillover())
    with suppress(ValueError):
        read_clusters(data)


def targets() -> list[Target]:
    """Return every target."""
    service = Service()
    bodies = [json.dumps(body).encode() for body in BODIES]
    answers = [json.dumps(answer).encode() for answer in ANSWERS]
    events = [b"data: " + b"\n\ndata: ".join(answers) + b"\n\n", b": hi\r\n\r\ndata: [DONE]\r\n\r\n"]
    logs = [message(entry(USAGE)), message(entry(request=REQUEST, status=400))]
    state = encode({("ratio", "text", "m", "latin"): figure(40, 0.1, (20.0, 80.0, 330.0))}, 1000.0)
    return [
        Target("request bodies", service.decide, [*bodies, b"{}"], 0.345, decides=True),
        Target("usage bodies", read_answer, answers, 0.2),
        Target("pressure pages", read_pressure, [METRICS, b"cluster.a.upstream_rq_active: 7\n"], 0.05),
        Target("event streams", read_stream, events, 0.15),
        Target("access logs", service.take_log, logs, 0.1),
        Target("exchanges", service.exchange, [m.SerializeToString() for m in MESSAGES], 0.1),
        Target("state files", service.read_state, [state], 0.05),
        Target("configurations", read_config, [CONFIG], 0.005),
    ]


def shapes() -> list[bytes]:
    """Whole bodies as large as are ever read, of the shapes that cost most; each for several paths."""
    return [body for _, body in SHAPES.values() for _ in range(5)]
