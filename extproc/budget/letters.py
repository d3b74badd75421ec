"""The cost of pairs of letters: how far a text is from the words in a tokenizer's vocabulary.

A vocabulary holds the words that are most frequent in its training text: English ones, and parts of words that
many languages share. A word costs more tokens the less its letters follow each other as in those: `th` and `qu`
are merged early, `pj` and `yg` never. So Dutch costs more than English and base64 more than Dutch, which counts
of single letters do not tell apart.

The table was fitted to the most frequent words of 26 languages, counted by two public vocabularies
(`python -m benchmarks.letters` makes it again). They agree on the table; how much it matters for a model is learned
as the weight of the feature `letter_pairs`.
"""

import numpy as np
from numpy.typing import NDArray

TENTHS = """
71104316322021424120414002
43471756424015399202333116
18150310120023021040157102
47542506345325490318435126
04201225655232410102422134
27761057198279251271282538
59972840478360391247599127
30942106282421284331483112
21002016532120011200609161
51963936672544591849500177
66673015596564651654774155
46432256473143344332540107
31881449384525205727379140
49012104443314354500504023
42215207442010016021010104
47431870477014108111497126
69111111911111111141111111
26221414353312133201411604
55381130374446224801350104
43191470394225309113562702
10220107234121624010848005
55991999493465491679777138
26340080220050131005718113
47093610243519704110245501
89695998599768751958997595
48963588595694570994673121
"""
"""Tenths of a token for two letters: the first by row, the second by column."""


def costs() -> NDArray[np.uint8]:
    """Return tenths of a token for two neighbouring bytes, 256 × 256, the first by row; 0 unless both are letters.

    Case does not matter, but a lower-case letter before an upper-case one costs 0 here: it counts as a new word.
    """
    table = np.zeros((256, 256), np.uint8)
    pairs = np.array([list(map(int, row)) for row in TENTHS.split()])
    for first, second in (("a", "a"), ("A", "a"), ("A", "A")):
        table[ord(first) : ord(first) + 26, ord(second) : ord(second) + 26] = pairs
    return table
