"""The tables the compiled kernel works on: requests, instances, finished requests."""

from typing import Any

import numpy as np
import numpy.typing as npt

from extproc.planning.engine import BLOCK, Engine

Rows = npt.NDArray[Any]

NOBODY = -1

REQUEST = np.dtype(
    [
        ("serial", "i8"),
        ("arrival", "f8"),
        ("first", "f8"),  # time of the first token, negative before it
        ("input", "i8"),
        ("target", "i8"),  # output tokens it will produce
        ("generated", "i8"),
        ("done", "i8"),  # tokens whose KV is computed
        ("chunk", "i8"),  # tokens scheduled in the iteration under way
        ("blocks", "i8"),
        ("preempted", "i8"),
        ("behind", "i8"),  # row behind it in the queue
    ],
    align=True,
)

INSTANCE = np.dtype(
    [
        ("weights_time", "f8"),
        ("token_time", "f8"),
        ("kv_time", "f8"),
        ("pair_time", "f8"),
        ("seqs", "i8"),
        ("budget", "i8"),
        ("reserve", "i8"),  # blocks set aside for each sequence, 0 when paged
        ("blocks", "i8"),
        ("pool", "i8"),
        ("end", "f8"),  # of the iteration under way, infinite when idle
        ("free", "i8"),
        ("running", "i8"),
        ("head", "i8"),
        ("tail", "i8"),
        ("waiting", "i8"),
        ("busy", "f8"),  # seconds spent in iterations
        ("slot_time", "f8"),  # sequences running, integrated over time
        ("block_time", "f8"),  # blocks in use, integrated over time
        ("preemptions", "i8"),
    ],
    align=True,
)

FINISHED = np.dtype(
    [
        ("serial", "i8"),
        ("pool", "i8"),
        ("arrival", "f8"),
        ("first", "f8"),
        ("end", "f8"),
        ("generated", "i8"),
        ("preempted", "i8"),
    ],
    align=True,
)

FREE_ROWS, FINISHED_ROWS = 0, 1
"""Places in the array of counts: free rows of the request table, and finished requests not yet taken."""


def instance_table(engines: list[Engine], counts: list[int]) -> Rows:
    """Build the instances of all pools, pool after pool, idle and empty."""
    table = np.zeros(sum(counts), INSTANCE)
    pools = np.repeat(np.arange(len(counts)), counts)
    for pool, engine in enumerate(engines):
        rows = pools == pool
        for name in ("weights_time", "token_time", "kv_time", "pair_time"):
            table[name][rows] = getattr(engine, name)
        table["seqs"][rows] = max(1, engine.slots)
        table["budget"][rows] = engine.batched_tokens
        table["reserve"][rows] = -(-engine.max_model_len // BLOCK) if engine.concurrency == "reserved" else 0
        table["blocks"][rows] = engine.kv_tokens // BLOCK
    table["pool"] = pools
    table["end"] = np.inf
    table["free"] = table["blocks"]
    table["head"] = table["tail"] = NOBODY
    return table
