"""Requests with true token counts: from a file, or from text that the Python installation carries."""

from pathlib import Path

import msgspec

from extproc.body.facts import Item, PromptFacts
from extproc.body.paths import api_of
from extproc.body.request import read_request
from extproc.budget.budget import merged
from extproc.budget.category import content_class
from extproc.budget.features import features
from extproc.demo import prompt, requests
from extproc.planning.request_log import RequestLog

STAND_IN = "tekken"
STAND_IN_REQUESTS = 1500
STAND_IN_SEED = 137


class Row(msgspec.Struct, frozen=True):
    """One request. `text`, `raw`: feature vectors of its text and of its body's size. `tokens`: the true prompt
    tokens by tokenizer. `cap`: output cap, 0 for none. `kind`: what it is, which no gateway knows. `exact`: given
    as token ids, which need no estimate."""

    text: tuple[float, ...]
    raw: tuple[float, ...]
    category: str
    kind: str
    tokens: dict[str, int]
    cap: int
    exact: bool


def read(path: Path | None) -> list[Row]:
    """Return the requests of `path`, or of the stand-in. Raises `LogError`."""
    if path is None:
        return _stand_in()
    return [_row(found.facts, found.tokens, found.kind, found.size) for found in RequestLog(path)]


def _row(facts: PromptFacts, tokens: dict[str, int], kind: str, size: int) -> Row:
    """Images are left out of the count, as they are in the truth of these files."""
    whole = merged(facts.items)
    vector = features(whole)
    exact = whole.tokens is not None and not whole.text
    if exact:
        tokens = dict.fromkeys(tokens, whole.tokens or 0)
    return Row(
        text=vector,
        raw=features(Item(raw=size)),
        category=content_class(vector, whole.size),
        kind=kind,
        tokens=tokens,
        cap=facts.cap or 0,
        exact=exact,
    )


def _stand_in() -> list[Row]:
    """Requests of the demo: documentation, source code, JSON and names in other scripts, counted by Tekken."""
    rows = []
    for request in requests.mixed(STAND_IN_REQUESTS, STAND_IN_SEED):
        api = api_of(request.path)
        body = msgspec.json.encode(request.body)
        facts = read_request(api, body) if api else None
        if isinstance(facts, PromptFacts):
            counted = sum(prompt.read(request.path, request.body).sizes)
            rows.append(_row(facts, {STAND_IN: counted}, request.kind, len(body)))
    return rows
