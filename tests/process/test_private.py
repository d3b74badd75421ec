"""What clients send and what secrets there are: on no admin page and in no log line."""

import json
import socket
from pathlib import Path

import grpc
import pytest

from extproc.config import Config
from extproc.pb import dualpool_extproc_pb2 as pb
from tests.process.talk import METHOD, QUICK, serving
from tests.unit.service.test_exchange import answer_headers, headers

SECRETS = ("my-prompt", "my-answer", "my-token", "my-path", "my-tool", "my-user", "my-argument", "my-password")
HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions?key=my-path",
    "authorization": "Bearer my-token",
    "x-token-category": "my-token",
    "dualpool-pools": "my-token",
}
BODY = {
    "messages": [
        {"role": "user", "content": "my-prompt"},
        {"tool_calls": [{"function": {"name": "my-tool", "arguments": "my-argument"}}]},
    ],
    "user": "my-user",
    "prompt_cache_key": "my-user",
    "max_tokens": 5,
}
ANSWER = {"choices": [{"message": {"content": "my-answer"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
BROKEN = b'{"messages":[{"content":"my-prompt'


def messages(body: bytes, answer: bytes) -> list[bytes]:
    sent = [
        pb.ProcessingRequest(request_headers=headers(HEADERS)),
        pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)),
        pb.ProcessingRequest(response_headers=answer_headers()),
        pb.ProcessingRequest(response_body=pb.HttpBody(body=answer, end_of_stream=True)),
    ]
    return [message.SerializeToString() for message in sent]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_nothing_that_is_private_is_shown(tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of good and broken requests and answers, of the password of a Redis that is not there: no trace."""
    monkeypatch.setenv("DUALPOOL_STATE__REDIS__PASSWORD", "my-password")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    places = {"redis": {"url": f"redis://127.0.0.1:{port}"}, "file": str(tmp_path / "state.json")}
    settings = {
        "server": {"log_level": level},
        "state": {**places, **QUICK},
        "categories": {"sources": ["model", "header"], "allowed": ["prose"]},
    }
    with serving(tmp_path, settings) as service, grpc.insecure_channel(service.address) as channel:
        for body in (json.dumps(BODY).encode(), BROKEN):
            for answer in (json.dumps(ANSWER).encode(), b'{"usage": "my-answer'):
                call = channel.stream_stream(METHOD)
                assert list(call(iter(messages(body, answer)), timeout=30, wait_for_ready=True))
        list(channel.stream_stream(METHOD)(iter([b"\xffmy-prompt"]), timeout=30))
        assert service.samples() == 1
        pages = [service.get(page)[1] for page in ("/metrics", "/state", "/healthz", "/readyz", "/my-path")]
        assert service.process.stop() == 0
    shown = "".join(pages) + service.process.output() + (tmp_path / "state.json").read_text("utf-8")
    assert [secret for secret in SECRETS if secret in shown] == []


def test_the_admin_port_is_on_loopback_unless_asked() -> None:
    """Whoever wants it elsewhere says so."""
    assert Config().server.admin_address[0] == "127.0.0.1"
    assert Config().server.listen.startswith("127.0.0.1:")
