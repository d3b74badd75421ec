"""True token counts: a real BPE vocabulary (Mistral's Tekken) that ships in the package mistral-common."""

import functools
from collections.abc import Callable
from pathlib import Path

_VOCABULARY = "tekken_240718.json"


@functools.cache
def _encoder() -> Callable[[str], list[int]]:
    # Imported here: the package and its vocabulary take seconds to load, and few who import this module count.
    import mistral_common
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    tokenizer = Tekkenizer.from_file(Path(mistral_common.__file__).parent / "data" / _VOCABULARY)
    return functools.partial(tokenizer.encode, bos=False, eos=False)


def encode(text: str) -> list[int]:
    """Return the token ids of `text`. The first call loads the vocabulary, about two seconds."""
    return _encoder()(text)


def count(text: str) -> int:
    """Return the number of tokens of `text`."""
    return len(encode(text))
