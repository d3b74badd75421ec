"""`python -m tests.faults [TEXT ...]`: break things under load, print what clients saw; exit 1 on a miss.

With texts, only the faults whose name holds one of them.
"""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from extproc.demo import tokens
from tests.envoy.pools import running_pools
from tests.faults.ground import Ground, Outcome
from tests.faults.scenarios import NEEDS_REDIS, SCENARIOS


def _run(name: str) -> Outcome:
    with TemporaryDirectory(prefix="dualpool-") as directory, ExitStack() as stack:
        pools = stack.enter_context(running_pools())
        return SCENARIOS[name](Ground(Path(directory), pools, stack.enter_context(ExitStack())))


def main(texts: list[str]) -> int:
    """Run the faults; 0 when no request failed and every figure was within its bound."""
    missed = 0
    tokens.count("")  # load the vocabulary now, not under load
    print(f"{'fault':50}{'requests':>10}{'failed':>8}")
    for name in SCENARIOS:
        if texts and not any(text in name for text in texts):
            continue
        if name in NEEDS_REDIS and shutil.which("redis-server") is None:
            print(f"{name:50}{'skipped: no redis-server':>18}")
            continue
        outcome = _run(name)
        print(f"{name:50}{len(outcome.sent):10}{len(outcome.failed):8}", flush=True)
        for figure in outcome.figures:
            print(
                f"    {figure.name}: {figure.value:g} (at most {figure.most:g}){'' if figure.good else ': MISSED'}"
            )
        missed += len(outcome.failed) + sum(not figure.good for figure in outcome.figures)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
