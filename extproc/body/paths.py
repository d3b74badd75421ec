"""Which API a request path belongs to."""

from extproc.body.facts import Api

SUFFIXES: tuple[tuple[str, Api], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/responses", "responses"),
    ("/messages", "messages"),
    ("/embeddings", "embeddings"),
    ("/score", "score"),
    ("/rerank", "score"),
)
"""How the paths of each API end. The first match counts."""

_USUAL: dict[str, Api] = {f"/v1{suffix}": api for suffix, api in SUFFIXES}


def api_of(path: str) -> Api | None:
    """Return the API of a request path, None for any other. Ignores the query and allows any prefix."""
    return _USUAL.get(path) or _by_suffix(path.partition("?")[0])


def _by_suffix(path: str) -> Api | None:
    return next((api for suffix, api in SUFFIXES if path.endswith(suffix)), None)
