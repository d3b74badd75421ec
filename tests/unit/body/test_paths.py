"""Rules of `extproc.body.paths`."""

import pytest

from extproc.body.facts import Api
from extproc.body.paths import api_of


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/completions?x=1", "completions"),
        ("/openai/v1/responses", "responses"),
        ("/v1/messages", "messages"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/score", "score"),
        ("/v2/rerank", "score"),
        ("/v1/models", None),
        ("/v1/messages/count_tokens", None),
        ("", None),
        ("/v1/files?path=/v1/chat/completions", None),
    ],
)
def test_api_of_a_path(path: str, api: Api | None) -> None:
    """The API is known by the end of the path, whatever prefix a gateway adds."""
    assert api_of(path) == api
