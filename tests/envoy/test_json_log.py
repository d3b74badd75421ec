"""Envoy's JSON access log, as `dualpool render --json-log` configures it, and `dualpool plan` reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from extproc.demo import answers
from extproc.demo.answers import Answer
from extproc.planning.trace import open_trace, workload
from extproc.planning.workload import NO_CAP
from extproc.render.layout import Exchange, Options
from tests.envoy.client import chat
from tests.envoy.modes import arrived, in_proxy_settings, write_seed
from tests.envoy.pools import SETS
from tests.envoy.stack import rendered_stack


@pytest.mark.parametrize("exchange", ["body", "bodyless", "in-proxy"])
def test_a_plan_reads_the_log_of_requests(tmp_path: Path, exchange: Exchange) -> None:
    """Prompts, answers and caps are what the pools counted and clients asked for; failed requests are bad rows."""
    log = tmp_path / "requests.log"
    options = Options(exchange=exchange, usage="access-log", json_log=str(log))
    settings = in_proxy_settings(tmp_path)
    write_seed(tmp_path, SETS, settings)  # which only one of them reads
    with rendered_stack(tmp_path / "run", SETS, settings, options) as stack:
        answers = [
            stack.send(chat("word " * 200, max_tokens=50)),
            stack.send(chat("word " * 3000)),
            stack.send({"messages": "none"}),
        ]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    usage = [answer.json()["usage"] for answer in answers[:2]]
    read = workload(open_trace(log))
    assert len(lines) == 3
    assert read.inputs.tolist() == [u["prompt_tokens"] for u in usage]
    assert read.outputs.tolist() == [u["completion_tokens"] for u in usage]
    assert read.caps.tolist() == [50, NO_CAP]
    assert (read.rows, read.bad) == (2, 1)


def test_a_plan_reads_prompts_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anthropic's API counts what was found in the cache apart; `dualpool_prompt_tokens_total` holds both."""
    whole = answers.whole

    def cached(path: str, answer: Answer) -> dict[str, Any]:
        usage = {"input_tokens": 9, "cache_read_input_tokens": 32, "output_tokens": 7}
        return {**whole(path, answer), "usage": usage}

    monkeypatch.setattr(answers, "whole", cached)
    log = tmp_path / "requests.log"
    options = Options(usage="access-log", json_log=str(log))
    with rendered_stack(tmp_path / "run", options=options) as stack:
        for _ in range(2):
            stack.send(chat("hello", max_tokens=50), path="/v1/messages")
        arrived(stack, 2)
        assert stack.count("dualpool_prompt_tokens_total") == 2 * 41
    read = workload(open_trace(log))
    assert (read.inputs.tolist(), read.rows) == ([41], 2)
