"""Output tokens to reserve for requests without a cap: a number that completions of their kind rarely exceed.

How rarely follows from the accepted rate of misroutes. A request whose prompt leaves room for the reserve r and s
tokens more is cut short when its completion is longer than r + s. Let d be the density of such requests near a
pool's capacity C: their share per e-fold of size. Then a share d / C · E[min(max(length − r, 0), C)] of them is cut
short, where an excess counts up to C, since s is at most C. With d = 1, which is more than real traffic has, r is
the smallest reserve that completions exceed by no more than rate · C tokens on average, with C the smallest pool's
capacity. A configured quantile replaces that rule.

Lengths are counted in buckets whose edges grow by 2^(1/4), so that a quantile is known within 19 %, on the safe
side, in constant memory, and histograms merge by addition. All counts are halved after every `WINDOW` completions,
so that old ones fade.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from extproc.budget.bounded import Bounded
from extproc.budget.estimate import Reserve
from extproc.budget.observation import Observation
from extproc.budget.sums import Recent, Sums, Table, are_counts
from extproc.config import Output

BUCKETS = 96
"""Edges 2^(i/4): up to 2^23.75, 14 million tokens."""

WINDOW = 4096

KIND = "output"
"""First part of a key. Sums: completions by bucket, fading by half over `WINDOW` completions."""

KEEP = 0.5 ** (1 / WINDOW)

EDGES = tuple(2 ** (bucket / 4) for bucket in range(BUCKETS))
"""Upper edges of the buckets, tokens."""

LARGEST_ROOM = EDGES[-1]

Key = tuple[str, str, str]


class Lengths:
    """A fading histogram of completion lengths (tokens)."""

    __slots__ = ("_sums", "counts", "reserve", "samples")

    def __init__(self, sums: Sums | None = None) -> None:
        """`sums`: what was counted before, by bucket."""
        self.counts = [0.0] * BUCKETS if sums is None else sums.values.tolist()
        self.samples = 0 if sums is None else sums.samples
        self._sums = sums
        self.reserve: int | None = None
        """The reserve by these counts, in tokens; None until it is computed."""

    def add(self, bucket: int) -> None:
        """Count one completion in `bucket` (see `bucket_of`)."""
        self.counts[bucket] += 1
        self.samples += 1
        self.reserve = None
        self._sums = None
        if self.samples % WINDOW == 0:
            self.counts = [c / 2 for c in self.counts]

    def sums(self) -> Sums:
        """Return everything counted; cached until more is."""
        if self._sums is None:
            self._sums = Sums(self.samples, KEEP**self.samples, np.array(self.counts))
        return self._sums

    def quantile(self, q: float) -> int:
        """Return the tokens that a share `q` of the completions does not exceed, rounded up to a bucket's edge."""
        left = q * sum(self.counts)
        for bucket, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return math.ceil(EDGES[bucket])
        return math.ceil(EDGES[-1])

    def bounding_excess(self, accepted: float, room: float) -> int:
        """Return the fewest tokens that completions exceed by no more than `accepted` tokens on average.

        The average is over all completions, and each excess counts up to `room` tokens.
        """
        left = accepted * sum(self.counts)
        longer = excess = 0.0
        # For each bucket its lower edge, and the tokens by which completions exceed that edge within the bucket.
        slices: deque[tuple[float, float]] = deque()
        for bucket in range(BUCKETS - 1, 0, -1):
            longer += self.counts[bucket]
            low, high = EDGES[bucket - 1], EDGES[bucket]
            slices.append((low, longer * min(high - low, room)))
            excess += slices[-1][1]
            while slices[0][0] >= low + room:
                excess -= slices.popleft()[1]
            if excess > left:
                return math.ceil(high)
        return 1


def bucket_of(tokens: int) -> int:
    """Return the bucket of a completion of `tokens` tokens."""
    return min(math.ceil(4 * math.log2(tokens)), BUCKETS - 1) if tokens > 1 else 0


class OutputReserve:
    """Reserves output tokens: the request's own cap, or what similar requests produced.

    `kinds`: the first parts of its keys in a `Table`.
    """

    kinds = frozenset({KIND})

    def __init__(self, settings: Output, limit: int, accepted: float = 0.0, room: float = LARGEST_ROOM) -> None:
        """`accepted`, `room`: see `Lengths.bounding_excess`; they count where no quantile is configured."""
        self._settings = settings
        self._accepted = accepted
        self._room = room
        self._limit = limit
        self._lengths: Bounded[Key, Lengths] = Bounded(limit)
        self._recent = Recent(limit)

    def reserve(self, model: str, category: str, cap: int | None, default: int | None = None) -> Reserve:
        """Return the reserve: `cap`, else what was learned of the category, the model or all models, in this order.

        `default`: tokens to reserve until enough is learned, None for the configured number.
        """
        if cap is not None:
            return Reserve(cap, "cap")
        for key in _keys(model, category):
            lengths = self._settled(key)
            if lengths is not None:
                return Reserve(self._learned(lengths), "learned")
        default = self._settings.default if default is None else default
        if default is not None:
            return Reserve(default, "default")
        return Reserve(0, "unknown")

    def _learned(self, lengths: Lengths) -> int:
        if lengths.reserve is None:
            q = self._settings.quantile
            lengths.reserve = (
                lengths.bounding_excess(self._accepted, self._room) if q is None else lengths.quantile(q)
            )
        return lengths.reserve

    def keys(self) -> set[tuple[str, str]]:
        """Return model and category, "" for all, of every histogram."""
        return {(model, category) for (_, model, category), _ in self._lengths.items()}

    def is_settled(self, model: str, category: str) -> bool:
        """Whether exactly these have a learned reserve of their own."""
        return self._settled((KIND, model, category)) is not None

    def _settled(self, key: Key) -> Lengths | None:
        lengths = self._lengths.get(key)
        return lengths if lengths is not None and lengths.samples >= self._settings.min_samples else None

    @staticmethod
    def is_possible(observation: Observation) -> bool:
        """Whether the pool can have produced the reported completion: no more tokens than its context holds.

        The capacity is no bound for a request that was rejected first, which a larger pool answered, nor for an
        unknown number of prompts.
        """
        unbounded = observation.cap is not None or observation.outcome == "rejected" or not observation.prompts
        return unbounded or _completion(observation) <= observation.capacity

    def learn(self, observation: Observation) -> None:
        """Count the completion of a request without a cap; with several choices, their average length.

        A cap hides how long an answer would have been. If capped answers counted, many short caps would make the
        reserve of requests without a cap too small, and their answers would be cut at the context of a pool that
        they do not fit. The sum over an unknown number of answers teaches nothing either.
        """
        tokens = _completion(observation)
        if observation.cap is not None or tokens < 1 or not observation.prompts:
            return
        bucket = bucket_of(tokens)
        for key in dict.fromkeys(_keys(observation.model, observation.category)):  # without a model, two are one
            self._lengths.use(key, Lengths).add(bucket)
            self._recent.count(key, KEEP, BUCKETS, bucket)

    def prepare(self) -> Iterator[None]:
        """Do what takes time in `export` and `take` beforehand, in small steps."""
        for _, lengths in self._lengths.items():
            lengths.sums()
            yield
        yield from self._recent.prepare()

    def export(self) -> Table:
        """Return the sums of every histogram."""
        return {key: lengths.sums() for key, lengths in self._lengths.items()}

    def take(self) -> Table:
        """Return the sums of what was learned since the last `take`."""
        return self._recent.take()

    def restore(self, table: Table) -> None:
        """Replace every histogram by those of `table`, without impossible ones."""
        self._recent.take()
        before, self._lengths = self._lengths, Bounded(self._limit)
        for key, sums in table.items():
            if key[0] != KIND or len(key) != 3:
                continue
            name = (key[0], key[1], key[2])
            lengths = _lengths(before.get(name), sums)
            if lengths is not None:
                self._lengths.put(name, lengths)

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the reserve and the samples of each histogram."""
        return [
            {
                "model": model,
                "category": category,
                "tokens": self._learned(lengths),
                "samples": lengths.samples,
            }
            for (_, model, category), lengths in self._lengths.items()
        ]


def _lengths(before: Lengths | None, sums: Sums) -> Lengths | None:
    """Return the histogram of `sums`, which may be the one before; None when they are impossible."""
    if before is not None and before.sums() == sums:
        return before
    good = len(sums.values) == BUCKETS and sums.samples > 0 and are_counts(sums.values)
    return Lengths(sums) if good else None


def _completion(observation: Observation) -> int:
    """Return the completion tokens per choice, 0 when unknown."""
    usage = observation.usage
    completion = 0 if usage is None else usage.completion_tokens or 0
    return math.ceil(completion / observation.choices)


def _keys(model: str, category: str) -> tuple[Key, Key, Key]:
    """Return the keys from the most to the least specific."""
    return (KIND, model, category), (KIND, model, ""), (KIND, "", "")
