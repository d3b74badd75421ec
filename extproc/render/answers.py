"""Envoy's filters that lift usage from answers into metadata, in place of the service."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from extproc.body.facts import Api
from extproc.body.paths import SUFFIXES
from extproc.render.lifting import JSON, RULES, rule
from extproc.render.text import Tree, commented
from extproc.render.typed import any_of
from extproc.service.metadata import AT_START, USAGE_NAMESPACE

ANSWER_BUFFER = 16 * 1024 * 1024
"""A JSON answer is buffered to be read. Over the limit it becomes a 500, so the limit is beyond any chat answer."""

EVENT_BYTES = 1024 * 1024
"""A longer event is dropped, and usage with it. The default, 8 KiB, is soon reached by a Responses API stream."""

_ITEM_FIELDS = (("input_tokens",), ("output_tokens",))
_OPENAI = (("prompt_tokens",), ("completion_tokens",), ("prompt_tokens_details", "cached_tokens"))
_RESPONSES = (*_ITEM_FIELDS, ("input_tokens_details", "cached_tokens"))
_ANTHROPIC = (*_ITEM_FIELDS, ("cache_read_input_tokens",), ("cache_creation_input_tokens",))
"""Where figures are within the usage objects of each dialect; the last step is the metadata key."""

_EVENT_RULES = "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata"


class Answers(NamedTuple):
    """Answers of `apis`, whose usage is read alike. `whole`: rules for JSON. `events`: for each event of a stream.

    Envoy tries every rule on every event, and one that finds nothing costs it most: so each dialect has filters of
    its own, with no other rules.
    """

    name: str
    apis: tuple[Api, ...]
    whole: Sequence[Tree]
    events: Sequence[Tree]

    @property
    def route(self) -> str:
        """Name of the route that wakes the filters."""
        return f"read-{self.name}"

    @property
    def paths(self) -> str:
        """Paths with these answers, as a regular expression."""
        return f".*({'|'.join(suffix for suffix, api in SUFFIXES if api in self.apis)})"

    @property
    def filters(self) -> tuple[str, str]:
        """Names of the filters of JSON answers and of streams."""
        return f"dualpool.{self.name}-json", f"dualpool.{self.name}-sse"


def _usage(where: tuple[str, ...], fields: Iterable[tuple[str, ...]], prefix: str = "") -> list[Tree]:
    return [rule((*where, *path), prefix + path[-1], USAGE_NAMESPACE) for path in fields]


def _reason(*path: str) -> Tree:
    return rule(path, "finish_reason", USAGE_NAMESPACE)


READ_ANSWERS = (
    Answers(
        "chat",
        ("chat", "completions"),
        whole=_usage(("usage",), _OPENAI),
        events=_usage(("usage",), _OPENAI),
    ),
    Answers(
        "responses",
        ("responses",),
        whole=[*_usage(("usage",), _RESPONSES), _reason("incomplete_details", "reason")],
        events=[
            *_usage(("response", "usage"), _RESPONSES),
            _reason("response", "incomplete_details", "reason"),
        ],
    ),
    Answers(
        "messages",
        ("messages",),
        whole=[*_usage(("usage",), _ANTHROPIC), _reason("stop_reason")],
        events=[
            *_usage(("usage",), _ANTHROPIC),
            *_usage(("message", "usage"), _ANTHROPIC),
            *_usage(("message", "usage"), _ANTHROPIC, AT_START),
            _reason("delta", "stop_reason"),
        ],
    ),
)
"""The answers that are read: those that teach. Others may be of any size and any kind."""


def answer_filters() -> list[Tree]:
    """Return the filters that lift usage from answers, asleep.

    A route wakes them (`extproc.render.typed.awake`) whose answers are those of a model server: an event that is no
    object (`data: 1`) ends Envoy with a segmentation fault, up to 1.40.
    """
    return commented(
        "# Lift usage from answers into metadata, for the access log: filters for each API, for JSON and for "
        "streams. A field that is missing or null is left out. Active only on the routes that enable them.",
        [tree for answers in READ_ANSWERS for tree in _reading(answers)],
    )


def _reading(answers: Answers) -> list[Tree]:
    whole, stream = answers.filters
    parser = any_of(
        "envoy.extensions.content_parsers.json.v3.JsonContentParser",
        {"rules": [{"rule": each} for each in answers.events]},
    )
    json_rules = {"allow_content_types_regex": {"regex": JSON}, "rules": [*answers.whole]}
    sse_rules = {
        "max_event_size": EVENT_BYTES,
        "content_parser": {"name": "envoy.content_parsers.json", "typed_config": parser},
    }
    return [
        {"name": whole, "disabled": True, "typed_config": any_of(RULES, {"response_rules": json_rules})},
        {"name": stream, "disabled": True, "typed_config": any_of(_EVENT_RULES, {"response_rules": sse_rules})},
    ]
