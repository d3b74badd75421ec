"""Reads prompt facts from the fields that Envoy lifts from a request body, where the body itself stays in Envoy.

Envoy's filters lift strings, numbers and booleans, and leave out null, lists and objects. Of the prompt only the
size of the body is known, with its JSON syntax and images, so these facts err to the long side.
"""

from collections.abc import Mapping

from extproc.body.facts import Api, Item, PromptFacts, Unreadable
from extproc.body.fields import ANY_CAP, CAPS, CUT_SIDES, LARGEST_CAP, UNCAPPED_APIS, conversation_of

Lifted = Mapping[str, str | float | bool | None]

REQUEST_FIELDS = (
    "model",
    *ANY_CAP,
    "truncate_prompt_tokens",
    *CUT_SIDES,
    "n",
    "stream",
    "previous_response_id",
    "prompt_cache_key",
    "user",
)
"""Fields lifted from the top level of the body. Beside them `json` is set, true, when there was JSON."""

NOTED_FIELDS = ("conversation", "prompt", "previous_input_messages")
"""Fields of a Responses body that name a prompt stored on the server. They may be objects, so where a filter can
see them at all, it lifts only that they are there: true."""

_OPTIONAL_TEXT = (str, type(None))  # built once: evaluating `str | None` takes longer than all the checks
_OPTIONAL_BOOLEAN = (bool, type(None))


def read_lifted(api: Api, lifted: Lifted, size: int) -> PromptFacts | Unreadable:
    """Read the fields lifted from a body of `size` bytes, among them `json`.

    Completions without `max_tokens` count as uncapped here, since an explicit null looks the same.
    """
    if lifted.get("json") is not True:
        return Unreadable("not_json")
    if api == "responses" and any(lifted.get(name) for name in NOTED_FIELDS):
        return Unreadable("stored_prompt")
    if lifted.get("previous_response_id"):
        return Unreadable("stored_prompt")
    model, choices = lifted.get("model"), lifted.get("n", 1.0)
    cap = next((lifted[name] for name in CAPS.get(api, ()) if name in lifted), None)
    truncated_to = lifted.get("truncate_prompt_tokens")
    if (
        not isinstance(model, _OPTIONAL_TEXT)
        or not isinstance(lifted.get("stream"), _OPTIONAL_BOOLEAN)
        or not _whole(choices, 1)
        or not (cap is None or _whole(cap, 0))
        or not (truncated_to is None or _whole(truncated_to, -1))
    ):
        return Unreadable("wrong_type")
    return PromptFacts(
        api=api,
        model=model or "",
        items=(Item(raw=size),),
        cap=0 if api in UNCAPPED_APIS else _count(cap),
        choices=_count(choices) or 1,
        truncated_to=_count(truncated_to),
        teaches=truncated_to is None and not any(lifted.get(name) for name in CUT_SIDES),
        conversation=lifted_conversation(lifted),
    )


def lifted_conversation(lifted: Lifted) -> str:
    """Return what names the conversation; "" where nothing does."""
    return conversation_of(_text(lifted.get("prompt_cache_key")), _text(lifted.get("user")))


def _whole(value: str | float | bool | None, least: int) -> bool:
    return isinstance(value, float) and value % 1 == 0 and value >= least


def _count(value: str | float | bool | None) -> int | None:
    return min(int(value), LARGEST_CAP) if isinstance(value, float) else None


def _text(value: str | float | bool | None) -> str:
    return value if isinstance(value, str) else ""
