"""Bounds on the bodies that are read, so that none holds up other requests (`make fuzz` measures it)."""

import numpy as np

LARGEST_BODY = 2 * 1024 * 1024
"""Bytes of a body."""

MOST_BRACKETS = 16_384
"""Opening brackets, each of which may become an object."""

MOST_COLONS = 65_536
"""Colons, each of which may end a key."""

MOST_COMMAS = 262_144

MOST_DIGITS = 2048
"""Places with sixteen digits in a row: a number of twenty digits and more takes microseconds to read."""

MOST_PROMPTS = 8192
"""Prompts of a batch."""

MOST_TEXT = 2 * LARGEST_BODY
"""Bytes of all prompts together: a suffix or a query counts with each prompt it is paired with."""

SHORT_BODY = 64 * 1024
"""Bytes of a body that is quick to read whatever it holds. Longer ones are counted in pieces of this size, which
stay in the CPU's cache."""

_EIGHT_TRUE = np.uint64(0x0101010101010101)  # eight bytes, each of them true


def takes_long(body: bytes) -> bool:
    """Whether a body has more brackets, colons, commas or long numbers than are read.

    Marks inside texts are counted too: no prompt that fits a small pool has so many.
    """
    whole = np.frombuffer(body, np.uint8)
    brackets = colons = commas = digits = 0
    for start in range(0, len(whole), SHORT_BODY):
        piece = whole[start : start + SHORT_BODY]
        brackets += int(np.count_nonzero(piece == ord("["))) + int(np.count_nonzero(piece == ord("{")))
        colons += int(np.count_nonzero(piece == ord(":")))
        commas += int(np.count_nonzero(piece == ord(",")))
        eights = ((piece - ord("0")) < 10)[: len(piece) // 8 * 8].view(np.uint64) == _EIGHT_TRUE
        digits += int(np.count_nonzero(eights[1:] & eights[:-1]))
    return brackets > MOST_BRACKETS or colons > MOST_COLONS or commas > MOST_COMMAS or digits > MOST_DIGITS
