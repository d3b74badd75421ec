"""What estimates are worth after some traffic: mixed requests through Envoy, truth from the pools' tokenizer."""

import asyncio
import json
import statistics
from collections import defaultdict
from pathlib import Path

from extproc.body.facts import PromptFacts
from extproc.body.paths import api_of
from extproc.body.request import read_request
from extproc.budget.learner import new_budgeter, new_learner
from extproc.config import Config
from extproc.demo.load import send_all
from extproc.demo.requests import Request, mixed
from extproc.demo.stack import Stack

TAUGHT = 200
ASKED = 200
FEW = 5
"""A median of fewer estimates says nothing."""


def prior_estimate(request: Request) -> int:
    """The estimate of a service that has learned nothing."""
    config = Config()
    api = api_of(request.path)
    assert api is not None
    facts = read_request(api, json.dumps(request.body).encode())
    assert isinstance(facts, PromptFacts)
    return new_budgeter(config, new_learner(config)).budget(facts).expected


def test_estimates_after_200_mixed_requests(tmp_path: Path) -> None:
    """The median error of each category is under 10 %, and less than that of the prior on the same requests."""
    requests = list(mixed(TAUGHT + ASKED, seed=2))
    with Stack(tmp_path) as stack:
        outcomes = asyncio.run(send_all(stack.envoy.url, requests, lambda: None))
    assert [outcome.status for outcome in outcomes] == [200] * len(requests)
    learned, prior = defaultdict(list), defaultdict(list)
    for request, outcome in list(zip(requests, outcomes, strict=True))[TAUGHT:]:
        if outcome.error is not None and outcome.prompt_tokens is not None:
            learned[outcome.category].append(abs(outcome.error))
            prior[outcome.category].append(abs(prior_estimate(request) / outcome.prompt_tokens - 1))
    medians = {
        category: (statistics.median(errors), statistics.median(prior[category]))
        for category, errors in learned.items()
        if len(errors) >= FEW
    }
    assert set(medians) >= {"latin", "code", "cjk", "structured"}
    assert {c: m for c, m in medians.items() if not (m[0] < 0.10 and m[0] < m[1])} == {}
