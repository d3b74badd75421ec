"""`python -m tests.fuzz [INPUTS] [SEED]`: fuzz every parser; exit 1 when one raised or a decision took too long.

What did is kept in tests/fuzz/corpus, where every later run tries it again: add it to the commit that mends it.
"""

import gc
import logging
import sys

from tests.fuzz.corpus import keep
from tests.fuzz.run import DECISION_SECONDS, fuzz

if __name__ == "__main__":
    logging.disable()
    gc.freeze()  # as the service does: a collection of all that was imported is no part of a decision
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    found = fuzz(inputs, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for name, data, error in found.failures[:20]:
        print(f"{name}: {error}: {data[:200]!r}; kept: {keep(name, data) or 'no, too long'}")
    print(
        f"{found.inputs} inputs, {len(found.failures) - found.slow} exceptions, {found.slow} decisions over "
        f"{DECISION_SECONDS * 1e3:g} ms of thread CPU time (slowest {found.slowest * 1e3:.1f} ms)"
    )
    sys.exit(bool(found.failures))
