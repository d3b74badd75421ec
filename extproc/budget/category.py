"""The category of a request: with the model, what a figure is learned for."""

from typing import Literal

from extproc.budget.features import NAMES, TOOL_BYTES

_COLUMN = {name: i for i, name in enumerate(NAMES)}
_TWO_BYTES = slice(_COLUMN["cyrillic_lead"], _COLUMN["two_byte_lead"] + 1)
_INDIC = _COLUMN["indic_lead"]
_CJK = slice(_COLUMN["cjk_lead"], _COLUMN["hangul_lead"] + 1)
_CODE = _COLUMN["code_punctuation"]
_DIGIT = _COLUMN["digit"]

ContentClass = Literal["latin", "code", "structured", "cjk", "other_script"]


def content_class(features: tuple[float, ...], size: float) -> ContentClass:
    """Return what a prompt of `features` mostly is. `size`: bytes of its text and tools.

    Judged by shares of bytes: first scripts, since they differ most in bytes per token; then punctuation, which is
    under 2 % of prose, 5 to 15 % of code, and more in JSON, tables and numbers.
    """
    text = size or 1.0
    if 3 * sum(features[_CJK]) > 0.25 * text:  # a CJK character is three bytes, one of them a lead byte
        return "cjk"
    if 2 * sum(features[_TWO_BYTES]) + 3 * features[_INDIC] > 0.25 * text:
        return "other_script"
    if features[_CODE] + features[_DIGIT] > 0.2 * text or features[TOOL_BYTES] > 0.5 * text:
        return "structured"
    if features[_CODE] > 0.05 * text:
        return "code"
    return "latin"
