"""True token counts: a real BPE vocabulary (Mistral's Tekken) that ships in the package mistral-common."""

import functools
from pathlib import Path

import mistral_common
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

_VOCABULARY = "tekken_240718.json"


@functools.cache
def _tokenizer() -> Tekkenizer:
    return Tekkenizer.from_file(Path(mistral_common.__file__).parent / "data" / _VOCABULARY)


def encode(text: str) -> list[int]:
    """Return the token ids of `text`. The first call loads the vocabulary, about a second."""
    ids: list[int] = _tokenizer().encode(text, bos=False, eos=False)
    return ids


def count(text: str) -> int:
    """Return the number of tokens of `text`."""
    return len(encode(text))
