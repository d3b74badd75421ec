"""The pure decision: a request body to a pool, in this process, without gRPC or Envoy, with either estimator."""

import functools
import json
import statistics
import timeit

from extproc.budget.learner import new_budgeter, new_learner
from extproc.budget.observation import Observation
from extproc.config import Config
from extproc.routing.router import Head, Router

SIZES = {"1 kB": 1_000, "32 kB": 32_000, "1 MB": 1_000_000}
REPEATS = 7
ESTIMATORS = ("linear", "ratio")
"""The default first."""

HEAD = Head(method="POST", path="/v1/chat/completions")
TEXT = "The quick brown fox, jumping over 13 lazy dogs, asks: what does a token cost?\n"


def body(size: int) -> bytes:
    """A chat request whose text has `size` bytes."""
    text = (TEXT * (size // len(TEXT) + 1))[:size]
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 64}).encode()


def measure(estimator: str) -> dict[str, float]:
    """Microseconds of a decision by size of the text: the median over `REPEATS` of the mean of a run."""
    # A pool that nothing here outgrows: a body too large for the smaller pools would not be parsed at all.
    pools = ({"name": "short", "capacity": 10_000_000}, {"name": "long", "capacity": 100_000_000})
    config = Config.model_validate({"pools": {"default": pools}, "estimation": {"estimator": estimator}})
    learner = new_learner(config)
    router = Router(config, new_budgeter(config, learner))
    figures = {}
    for name, size in SIZES.items():
        request = body(size)
        decision = router.decide(HEAD, request, whole=True)
        assert isinstance(decision.observation, Observation), decision
        runs = max(20, 2_000_000 // (size + 1000))
        decide = functools.partial(router.decide, HEAD, request, whole=True)
        times = timeit.repeat(decide, number=runs, repeat=REPEATS)
        figures[name] = statistics.median(times) / runs * 1e6
    return figures


def text(figures: dict[str, dict[str, float]]) -> str:
    """A line for each figure."""
    return "\n".join(
        f"{estimator:>6} {size:>6}: {microseconds:9.1f} µs per decision, {1e6 / microseconds:9,.0f} decisions/s"
        for estimator, by_size in figures.items()
        for size, microseconds in by_size.items()
    )


def main() -> dict[str, dict[str, float]]:
    """Measure, print, and return what was measured, by estimator."""
    figures = {estimator: measure(estimator) for estimator in ESTIMATORS}
    print(text(figures))
    return figures


if __name__ == "__main__":
    main()
