"""How costs of letter pairs were found: `python -m benchmarks.letters` prints those of `extproc.budget.letters`.

Words: the most frequent ones of 26 languages in Latin script, from the package wordfreq, each weighted by the root
of its frequency, so that rare words count too; English as much as eight others, since it is what most prompts are
in. Their tokens, by Tekken and by Mistral's older SentencePiece model, are explained by least squares: a constant a
word, so much a byte beyond ASCII, and a cost for each pair of neighbouring letters. wordfreq and sentencepiece are
not among the pinned packages; install them beside.
"""

import inspect
from collections import Counter
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import mistral_common
import numpy as np

from extproc.demo import tokens

LANGUAGES = "en de nl fr es it pt sv nb da pl cs sk sl hu ro fi tr id fil ca lt lv is sh vi"
ENGLISH = 8.0
WORDS = {"en": 12_000}
OTHER_WORDS = 6_000

USUAL = 0.12
NEAR = 1e-4
"""Tokens a letter that a pair costs when no word has it, and the weight of that against all words."""

PAIRS = [a + b for a in ascii_lowercase for b in ascii_lowercase]
COLUMNS = {name: column for column, name in enumerate((*PAIRS, "word", "beyond"))}
PRIOR = np.array([USUAL] * len(PAIRS) + [0.5, 0.5])


def main() -> None:
    """Print the table, tenths of a token."""
    wordfreq = import_module("wordfreq")
    processor = import_module("sentencepiece").SentencePieceProcessor()
    processor.Load(str(Path(inspect.getfile(mistral_common)).parent / "data" / "tokenizer.model.v1"))
    matrix, target = NEAR * np.eye(len(COLUMNS)), NEAR * PRIOR
    for language in LANGUAGES.split():
        words = wordfreq.top_n_list(language, WORDS.get(language, OTHER_WORDS))
        weights = np.sqrt([wordfreq.word_frequency(word, language) for word in words])
        weights *= (ENGLISH if language == "en" else 1.0) / weights.sum()
        for word, weight in zip(words, weights.tolist(), strict=True):
            counted = _counts(word)
            columns, counts = [COLUMNS[name] for name in counted], np.array(list(counted.values()), float)
            matrix[np.ix_(columns, columns)] += weight * np.outer(counts, counts)
            target[columns] += weight * counts * (tokens.count(f" {word}") + len(processor.Encode(word))) / 2
    found = np.linalg.solve(matrix, target)[: len(PAIRS)]
    for row in np.clip(np.rint(10 * found), 0, 9).astype(int).reshape(26, 26):
        print("".join(map(str, row)))


def _counts(word: str) -> Counter[str]:
    """What of `word` its tokens are explained by."""
    found = Counter(pair for a, b in pairwise(word) if (pair := a + b) in COLUMNS)
    found["word"] = 1
    found["beyond"] = sum(len(letter.encode()) for letter in word if not letter.isascii())
    return found


if __name__ == "__main__":
    main()
