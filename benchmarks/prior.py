"""How the linear estimator's prior was found: `python -m benchmarks.prior` prints what least squares say.

Text: the language reference, the standard library's source, JSON databases, tool definitions, and names of
countries and languages in many languages. Vocabularies: Tekken twice, and Mistral's older SentencePiece model once,
where the package sentencepiece is there. The result stays near `REASONED`; a digit's weight is held there.
"""

import inspect
import random
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import mistral_common
import numpy as np
import pycountry
from numpy.typing import NDArray

from extproc.body.facts import Item
from extproc.budget.features import NAMES, features
from extproc.budget.prior import INPUTS, PRIOR
from extproc.demo import texts, tokens

Array = NDArray[np.float64]

TEXTS = NAMES[: NAMES.index("tool_bytes")]
REASONED = dict(zip(INPUTS, PRIOR.tolist(), strict=True))
NEAR = 0.1
"""Weight of the reasoned figures against one text."""

HELD = ("digit", "digit_in_run", "rare_script")
LIST_WEIGHT = 0.15
"""Lists of names say less than prose: nearly every word in them is rare."""


def main() -> None:
    """Print the weights, and the error of the shipped prior by kind of text."""
    draw = random.Random(1)
    kinds, vectors, counts = [], [], []
    counters = _counters()
    for kind, text in _texts().items():
        for _ in range(6 if kind in _languages() else 100):
            piece = texts.piece(text, int(draw.lognormvariate(7.5, 0.8)) + 200, draw)
            kinds.append(kind)
            vectors.append(features(Item(text=piece.encode()))[: len(TEXTS)])
            counts.append([count(piece) for count in counters])
    x, y = np.array(vectors), np.exp(np.log(np.array(counts)).mean(axis=1))
    weight = np.where(np.isin(kinds, _languages()), LIST_WEIGHT, 1.0)
    for name, value in zip(TEXTS, _fit(x, y, weight), strict=True):
        print(f"{name:18} {value:6.2f}   shipped {REASONED[name]:6.2f}")
    shipped = x.dot(PRIOR[: len(TEXTS)])
    for kind in ("documentation", "source", "json", "tools", "de", "ru", "zh_CN", "ja", "ko"):
        chosen = np.array(kinds) == kind
        if chosen.any():
            print(
                f"error of the shipped prior on {kind}: {100 * np.median(shipped[chosen] / y[chosen] - 1):+.0f} %"
            )


def _fit(x: Array, y: Array, weight: Array) -> Array:
    """Least squares on relative errors, near `REASONED`."""
    reasoned = np.array([REASONED[name] for name in TEXTS])
    spread = np.maximum(np.abs(reasoned), 0.15)
    spread[[TEXTS.index(name) for name in HELD]] = 0.02
    u = x / y[:, None]
    matrix = (u * weight[:, None]).T @ u + NEAR * np.diag(1 / spread**2)
    return np.linalg.solve(matrix, (u * weight[:, None]).sum(axis=0) + NEAR * reasoned / spread**2)


def _texts() -> dict[str, str]:
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:150]
    found = {
        "documentation": texts.documentation(),
        "source": "\n".join(module.read_text("utf-8", errors="ignore") for module in modules),
        "json": texts.records(),
        "tools": "\n".join(map(texts.compact, texts.tools())),
    }
    for language in _languages():
        with suppress(FileNotFoundError):  # a language that not every list is translated into
            names = texts.names(language).replace("、", "\n")
            if len(names) > 3000:
                found[language] = names
    return found


def _languages() -> list[str]:
    return sorted(path.name for path in Path(pycountry.LOCALES_DIR).iterdir() if path.is_dir())


def _counters() -> list[Callable[[str], int]]:
    try:
        processor = import_module("sentencepiece").SentencePieceProcessor()
    except ModuleNotFoundError:
        print("without sentencepiece: Tekken alone")
        return [tokens.count]
    processor.Load(str(Path(inspect.getfile(mistral_common)).parent / "data" / "tokenizer.model.v1"))
    return [tokens.count, tokens.count, lambda text: len(processor.Encode(text))]


if __name__ == "__main__":
    main()
