"""Whole bodies, decided by Envoy with the filter and by the service's own router, which would do the same."""

import http.client
import json
import random
from pathlib import Path
from typing import Any

import msgspec

from extproc.budget.learner import new_budgeter, new_learner
from extproc.budget.observation import Observation
from extproc.config import Config
from extproc.demo.envoy import Tree, connection_manager
from extproc.demo.pool import Behaviour
from extproc.render.typed import any_of
from extproc.routing.router import Head, Router
from tests.envoy.client import MARKER
from tests.envoy.modes import IN_PROXY, in_proxy_settings, options, write_seed
from tests.envoy.stack import rendered_stack
from tests.lifted import lifted

BODIES = 2000
SETS = {"default": {"short": 2048, "long": 131_072}, "coder": {"small": 700, "medium": 6000, "big": 200_000}}
SETTINGS: dict[str, Any] = {
    "models": {"code": "coder", "模型": "coder", "x" * 300: "coder"},
    "output": {"default": 300},
    "categories": {"sources": ["model", "header", "content"], "allowed": ["docs"]},
    "routing": {"rollout_percent": 80, "conversation_header": "x-chat"},
}
CHAT = "/v1/chat/completions"
NOT_UTF8 = b"c\xff".decode("utf-8", "surrogateescape")
"""As the service reads a header of these bytes."""

PATHS = (*(CHAT,) * 6, "/v1/completions", "/v1/embeddings", "/v1/messages?beta=true", "/v1/responses", "/v1/models")
FIELDS: dict[str, tuple[Any, ...]] = {
    "model": ("m", "code", "nobody", "", "模型", 'q"uo\\te', "x" * 300, None, 7, ["m"]),
    "max_tokens": (16, 256, 2000, 0, 1.0, 1.5, -1, True, "many", None, 10**12, {"a": 1}),
    "max_completion_tokens": (64, 4096, None, "64"),
    "max_output_tokens": (32, None),
    "n": (1, 2, 0, None, "2"),
    "stream": (True, False, None, "yes"),
    "user": ("ann", "bob", "会話", "é" * 5000, "", 5),
    "prompt_cache_key": ("k1", "k2", ""),
    "previous_response_id": ("resp_1", "", None),
    "conversation": ({"id": "conv_1"}, "conv_1", None),
    "prompt": ({"id": "p"}, "text", None),
    "previous_input_messages": ([{"role": "user"}], None),
    "max_tokens_per_doc": (512, 0, None, "512", True),
    "truncate_prompt_tokens": (512, -1, None, 9000, -2, "512"),
}
USUAL = {
    "model": 0.9,
    "max_tokens": 0.7,
    "previous_response_id": 0.05,
    "conversation": 0.1,
    "prompt": 0.1,
    "previous_input_messages": 0.1,
    "truncate_prompt_tokens": 0.1,
    "max_tokens_per_doc": 0.1,
}
"""How often a field is there at all; the others three times in ten."""

CONTENTS = ("word ", "é", "\n", '"', "\\", '"max_tokens": 5, ', "]}{[")
"""What prompts are made of: text, what is escaped, and what looks like JSON."""

TYPES = (*("application/json; charset=utf-8",) * 40, "Application/JSON ;charset=UTF-8", "text/plain")

Asked = tuple[Head, bytes, str]
"""Head, body and content type of a request."""


def requests(seed: int) -> list[Asked]:
    """Requests of every kind, most of them sensible."""
    draw = random.Random(seed)
    return [_request(draw, f"r{number}") for number in range(BODIES)]


def _request(draw: random.Random, request_id: str) -> Asked:
    # The sensible values come first in each list, and are drawn most of the time.
    fields = {
        name: values[0] if draw.random() < 0.5 else draw.choice(values)
        for name, values in FIELDS.items()
        if draw.random() < USUAL.get(name, 0.3)
    }
    size = int(10 ** draw.uniform(0.5, 5.1))
    content = draw.choice(CONTENTS) * (size // 5)
    prompt = {"messages": [{"role": "user", "content": content, "max_tokens": 7}], "tools": [{"model": {"n": 9}}]}
    halves = (fields, prompt) if draw.random() < 0.5 else (prompt, fields)
    indent = draw.choice((None, None, 1))
    raw = json.dumps({**halves[0], **halves[1]}, ensure_ascii=draw.random() < 0.5, indent=indent).encode()
    if draw.random() < 0.03:
        raw = draw.choice((b"", b"[]", b"7", raw[:-1], b"{}", b"not json"))
    head = Head(
        method="POST" if draw.random() < 0.97 else "PUT",
        path=draw.choice(PATHS),
        category=draw.choice(("", "", "docs", "stolen")),
        conversation=draw.choice(("", "", "c1", "c2", NOT_UTF8)),
        request_id=request_id,
    )
    return head, raw, draw.choice(TYPES)


def ask(url: str, asked: list[Asked]) -> None:
    """Send all requests over one connection."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    for head, raw, content_type in asked:
        connection.putrequest(head.method, head.path)
        connection.putheader("content-type", content_type)
        for name in (MARKER, "x-request-id"):
            connection.putheader(name, head.request_id)
        for name, value in (("x-token-category", head.category), ("x-chat", head.conversation)):
            if value:  # of a header that is there twice, the last one counts
                connection.putheader(name, "earlier")
                connection.putheader(name, value.encode("utf-8", "surrogateescape"))
        connection.putheader("content-length", str(len(raw)))
        connection.endheaders(raw)
        connection.getresponse().read()
    connection.close()


def test_thousands_of_bodies_are_decided_alike(tmp_path: Path) -> None:
    """Pool, choice, reason and the whole observation are the same for every body."""
    log = tmp_path / "log"
    settings = {**SETTINGS, **in_proxy_settings(tmp_path)}
    write_seed(tmp_path, SETS, settings)
    asked = requests(seed=1)

    def change(tree: Tree) -> Tree:
        manager = connection_manager(tree)
        manager["access_log"] = [decisions_log(log)]
        manager["preserve_external_request_id"] = True
        return tree

    how: dict[str, Any] = {"behaviour": Behaviour(status=503), "change": change, "service": False}
    with rendered_stack(tmp_path / "run", SETS, settings, options(IN_PROXY), **how) as stack:
        ask(stack.url, asked)
    config = Config.model_validate(stack.settings)
    learner = new_learner(config)
    router = Router(config, new_budgeter(config, learner))
    found = {line["id"]: line for line in map(json.loads, log.read_text("utf-8").rstrip("\n").split("\n"))}
    landed = {
        r.headers[MARKER]: name for name, s in stack.pools.items() for r in s.pool.received if MARKER in r.headers
    }
    for head, raw, content_type in asked:
        fields = lifted(raw) if content_type.lower().startswith("application/json") else {}
        decision = router.decide_by_size(head, fields, len(raw))
        line = found[head.request_id]
        seen = line["observation"] and msgspec.json.decode(line["observation"], type=Observation)
        assert (line["pool"], line["in_proxy"] or line["pool"], line["reason"]) == (
            decision.pool.name,
            decision.chosen.name,
            decision.reason,
        ), (head, raw[:300])
        assert landed.get(head.request_id, decision.pool.name) == decision.pool.name
        assert seen == decision.observation
    assert len(landed) > 0.7 * BODIES  # all that a pool has an API for
    reasons = {line["reason"] for line in found.values()}
    assert reasons >= {"fits", "too_long", "oversized", "rollout", "not_json", "wrong_type", "stored_prompt"}


def decisions_log(path: Path) -> dict[str, Any]:
    """An access log of decisions."""
    keys = ("pool", "in_proxy", "reason", "observation")
    fields = {"id": f"%REQ({MARKER})%", **{key: f"%DYNAMIC_METADATA(dualpool:{key})%" for key in keys}}
    file = {"path": str(path), "log_format": {"json_format": fields}}
    return {
        "name": "decisions",
        "typed_config": any_of("envoy.extensions.access_loggers.file.v3.FileAccessLog", file),
    }
