"""How well raw body bytes tell prompt tokens: what the bodyless and in-proxy modes decide by.

`python -m benchmarks.raw_accuracy FILE.jsonl.gz`: a request a line with `body` and `prompt_tokens` by tokenizer.
Each request is estimated before it is learned from, each tokenizer by itself.
"""

import gzip
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import features
from extproc.budget.observation import Observation
from extproc.budget.ratio import RatioEstimator
from extproc.config import Estimation

LEAST_TOKENS = 1000
"""A shorter prompt is far from any threshold."""


def errors(rows: list[dict[str, Any]], tokenizer: str) -> tuple[list[float], list[float]]:
    """Return estimate over truth, and upper estimate over truth, less one, of the prompts that count."""
    estimator = RatioEstimator(Estimation(), 16)
    found, upper = [], []
    for row in rows:
        body = row["body"] if isinstance(row["body"], str) else msgspec.json.encode(row["body"]).decode()
        vector, tokens = features(Item(raw=len(body.encode()))), row["prompt_tokens"][tokenizer]
        estimate = estimator.estimate("m", "all", "raw", vector)
        if tokens >= LEAST_TOKENS:
            found.append(estimate.tokens / tokens - 1)
            upper.append(estimate.upper / tokens - 1)
        usage = Usage(prompt_tokens=tokens)
        pool = ("short", 8192, False)
        estimator.learn(Observation("m", "all", "raw", vector, estimate.tokens, None, 1, 1, True, *pool, usage))
    return found, upper


def main() -> None:
    """Print a table."""
    with gzip.open(Path(sys.argv[1]), "rt", encoding="utf-8", newline="\n") as file:
        rows = [msgspec.json.decode(line) for line in file]
    print("| tokenizer | median error | p95 error | estimate under by > 10 % | upper estimate under |")
    print("|---|---|---|---|---|")
    for tokenizer in rows[0]["prompt_tokens"]:
        found, upper = errors(rows, tokenizer)
        sizes = sorted(map(abs, found))
        cells = (
            statistics.median(sizes),
            sizes[int(0.95 * len(sizes))],
            sum(e < -0.1 for e in found) / len(found),
            sum(e < 0 for e in upper) / len(upper),
        )
        print(f"| {tokenizer} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |")


if __name__ == "__main__":
    main()
