"""`dualpool explain`: why a request goes where it goes."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from extproc.body.facts import PromptFacts, Unreadable
from extproc.body.paths import api_of
from extproc.body.request import read_request
from extproc.budget.budget import Budget, Budgeter
from extproc.budget.features import NAMES, text_bytes
from extproc.budget.learner import new_budgeter, new_learner
from extproc.config_file import ConfigError, load
from extproc.routing.decision import Decision, Reason
from extproc.routing.router import Head, PoolSet, Router
from extproc.state.codec import BadStateError
from extproc.state.file import load as load_state

OVERRULED: dict[Reason, str] = {
    "shadow": "routing.shadow: false",
    "rollout": "a routing.rollout_percent that its conversation is in (100: all are)",
}
"""Why a request goes to the largest pool whatever its budget, and what to set for another outcome."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `explain`."""
    parser.add_argument("body", metavar="BODY.json", help="a request body, or - for standard input")
    parser.add_argument(
        "--path", default="/v1/chat/completions", help="path that the request is sent to (default: %(default)s)"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML configuration (default: built-in defaults)"
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="file of learned figures (default: state.file)")


def run(args: argparse.Namespace) -> int:
    """Print the decision and what led to it; 0, or 2 when configuration, state or body cannot be used."""
    try:
        config = load(args.config)
        body = sys.stdin.buffer.read() if args.body == "-" else Path(args.body).read_bytes()
        learner = new_learner(config)
        path = args.state or config.state.file
        stored = load_state(path) if path else None
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BadStateError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    if args.state and stored is None:
        print(f"--state: {args.state}: there is no such file", file=sys.stderr)
        return 2
    if stored is not None:
        learner.adopt(stored.table)
    budgeter = new_budgeter(config, learner)
    router = Router(config, budgeter)
    decision = router.decide(Head("POST", args.path), body, whole=True)
    for line in explain(router, budgeter, decision, args.path, body):
        print(line)
    return 0


def explain(router: Router, budgeter: Budgeter, decision: Decision, path: str, body: bytes) -> Iterator[str]:
    """Yield the lines of an explanation."""
    api = api_of(path)
    facts = read_request(api, body) if api else None
    if isinstance(facts, PromptFacts) and decision.estimate is not None:
        budget = budgeter.budget(facts)
        yield from _prompt(facts, budget, len(body))
        yield from _estimate(decision, budget)
    elif isinstance(facts, Unreadable):
        yield f"body      cannot be read ({facts.reason})"
    yield f"pool      {decision.pool.name} ({decision.pool.capacity} tokens): {decision.reason}"
    if decision.pool is not decision.chosen:
        yield f"          its budget asks for {decision.chosen.name}, which {decision.reason} overrules"
    if isinstance(facts, PromptFacts) and decision.estimate is not None:
        yield from _otherwise(router.pools_of(facts.model), decision)


def _prompt(facts: PromptFacts, budget: Budget, size: int) -> Iterator[str]:
    yield f"request   {facts.api}, model {budget.model or '(none)'}, {size} bytes"
    media = sum(item.media for item in facts.items)
    messages = sum(item.messages for item in facts.items)
    text = text_bytes(budget.features)
    yield f"prompts   {len(facts.items)}: {text:.0f} bytes of text, {messages} messages, {media} images or files"
    counted = sorted(zip(budget.features, NAMES, strict=True), reverse=True)
    yield "features  " + ", ".join(f"{name} {count:.0f}" for count, name in counted if count >= 1)
    yield f"category  {budget.category}; counted by {budget.basis}"


def _estimate(decision: Decision, budget: Budget) -> Iterator[str]:
    estimate, reserve = decision.estimate, budget.reserve
    assert estimate is not None
    above = 100 * (estimate.upper / max(1, estimate.tokens) - 1)
    yield f"estimate  {estimate.tokens} tokens, at most {estimate.upper} (+{above:.0f} %): {estimate.source}"
    yield f"output    {reserve.tokens} tokens set aside: {reserve.source}"
    yield f"budget    {decision.budget} tokens"


def _otherwise(pools: PoolSet, decision: Decision) -> Iterator[str]:
    """What would have to be different for another of `pools`, and before that for the budget to have a say."""
    place = pools.index(decision.chosen)
    assert decision.estimate is not None
    assert decision.reserve is not None
    room = decision.chosen.capacity - decision.budget
    change = "would     go to"
    if decision.reason in OVERRULED:
        yield f"would     go by its budget with {OVERRULED[decision.reason]}"
        change = "          which would then ask for"
    if decision.reserve.source == "unknown":
        yield "would     be split by budget with a max_tokens of its own, or once completions have been learned"
    elif room >= 0 and place < len(pools) - 1:
        yield f"{change} {pools[place + 1].name} with {room + 1} tokens more"
    if place > 0:
        smaller = pools[place - 1]
        left = smaller.capacity - decision.estimate.upper
        if left > 0:
            yield f"{change} {smaller.name} with an output cap of {left} or less"
        else:
            yield f"{change} {smaller.name} with {-left + decision.reserve.tokens} tokens less"
