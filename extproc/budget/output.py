"""Output tokens to set aside for requests that state no cap: what completions of their kind rarely exceed.

How rarely follows from the rate of misroutes that is accepted. A request whose prompt leaves room for the reserve r
and s tokens more is cut short when its completion is longer than r + s. Of requests without a cap d per e-fold of
size are near a pool's capacity C, so d / C · E[min(max(length − r, 0), C)] of them are cut short in all: s is at
most C, and an answer without end counts for no more than that. With d = 1, more than real traffic has, r is the
least reserve that completions exceed by no more than rate · C tokens on average, C being the smallest pool's. A
configured quantile takes the place of that rule.

Lengths fall into buckets whose edges grow by 2^(1/4), so a quantile is known within 19 % on the safe side, in
constant memory, and two such histograms merge by addition. Every `WINDOW` completions all counts are halved: what
was seen long ago fades.
"""

import math
from collections import deque

from extproc.budget.bounded import Bounded
from extproc.budget.estimate import Reserve
from extproc.budget.observation import Observation
from extproc.budget.sums import Recent, Sums, Table
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

    __slots__ = ("counts", "reserve", "samples")

    def __init__(self) -> None:
        self.counts = [0.0] * BUCKETS
        self.samples = 0
        self.reserve: int | None = None
        """Tokens to set aside by these counts, None while it is not worked out."""

    def add(self, bucket: int) -> None:
        """Count one completion, by `bucket_of` its tokens."""
        self.counts[bucket] += 1
        self.samples += 1
        self.reserve = None
        if self.samples % WINDOW == 0:
            self.counts = [c / 2 for c in self.counts]

    def quantile(self, q: float) -> int:
        """Tokens that a share `q` of the completions does not exceed: the upper edge of its bucket."""
        left = q * sum(self.counts)
        for bucket, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return math.ceil(EDGES[bucket])
        return math.ceil(EDGES[-1])

    def with_excess(self, accepted: float, room: float) -> int:
        """The fewest tokens that completions exceed by no more than `accepted` on average.

        All completions are counted, each excess up to `room` tokens.
        """
        left = accepted * sum(self.counts)
        longer = excess = 0.0
        # Of each bucket its lower edge, and by how much completions exceed that within the bucket.
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
    """The reserve of a request, from its cap or from what similar requests produced.

    `kinds`: the first parts of the keys of what it learns.
    """

    kinds = frozenset({KIND})

    def __init__(self, settings: Output, limit: int, accepted: float = 0.0, room: float = LARGEST_ROOM) -> None:
        """`accepted`: tokens by which completions may exceed the reserve on average, each of them counted up to
        `room`; where no quantile is set."""
        self._settings = settings
        self._accepted = accepted
        self._room = room
        self._limit = limit
        self._lengths: Bounded[Key, Lengths] = Bounded(limit)
        self._recent = Recent(limit)

    def reserve(self, model: str, category: str, cap: int | None, default: int | None = None) -> Reserve:
        """Return the output tokens to set aside; category, then model, then all models are asked.

        `default`: tokens reserved until the quantile is learned, None for the configured figure.
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
            lengths.reserve = lengths.with_excess(self._accepted, self._room) if q is None else lengths.quantile(q)
        return lengths.reserve

    def keys(self) -> set[tuple[str, str]]:
        """Return model and category, "" for all of them, of whatever completions have been learned from."""
        return {(model, category) for (_, model, category), _ in self._lengths.items()}

    def is_settled(self, model: str, category: str) -> bool:
        """Whether the reserve of just these is learned."""
        return self._settled((KIND, model, category)) is not None

    def _settled(self, key: Key) -> Lengths | None:
        lengths = self._lengths.get(key)
        return lengths if lengths is not None and lengths.samples >= self._settings.min_samples else None

    @staticmethod
    def is_possible(observation: Observation) -> bool:
        """Whether the pool can have produced what usage reports: no more than its context holds.

        A request that was rejected first was answered by a larger pool, so this capacity does not bound it, nor the
        answers to prompts of which nobody knows how many there were.
        """
        unbounded = observation.cap is not None or observation.outcome == "rejected" or not observation.prompts
        return unbounded or _completion(observation) <= observation.capacity

    def learn(self, observation: Observation) -> None:
        """Count the completion of a request without a cap; with several choices, their average length.

        A cap hides how long an answer would have been. Counted, short caps of many would make the reserve of those
        without one too small, and their answers would end at the context of a pool that they did not fit. Nor does
        the sum of nobody knows how many answers teach anything.
        """
        tokens = _completion(observation)
        if observation.cap is not None or tokens < 1 or not observation.prompts:
            return
        bucket = bucket_of(tokens)
        for key in dict.fromkeys(_keys(observation.model, observation.category)):  # the same without a model
            self._lengths.use(key, Lengths).add(bucket)
            self._recent.count(key, KEEP, BUCKETS, bucket)

    def export(self) -> Table:
        """Return the sums of every histogram."""
        return {
            key: Sums(lengths.samples, KEEP**lengths.samples, tuple(lengths.counts))
            for key, lengths in self._lengths.items()
        }

    def take(self) -> Table:
        """Return the sums of what was learned since the last `take`."""
        return self._recent.take()

    def restore(self, table: Table) -> None:
        """Replace every histogram by those of `table`; impossible ones are left out."""
        self._recent.take()
        self._lengths = Bounded(self._limit)
        for key, sums in table.items():
            good = key[0] == KIND and len(key) == 3 and len(sums.values) == BUCKETS
            if good and sums.samples > 0 and all(0 <= count < math.inf for count in sums.values):
                lengths = self._lengths.use((key[0], key[1], key[2]), Lengths)
                lengths.samples, lengths.counts = sums.samples, list(sums.values)

    def snapshot(self) -> list[dict[str, object]]:
        """Return each key's reserve and samples."""
        return [
            {
                "model": model,
                "category": category,
                "tokens": self._learned(lengths),
                "samples": lengths.samples,
            }
            for (_, model, category), lengths in self._lengths.items()
        ]


def _completion(observation: Observation) -> int:
    """Tokens of each choice, 0 when it is not known."""
    usage = observation.usage
    completion = 0 if usage is None else usage.completion_tokens or 0
    return math.ceil(completion / observation.choices)


def _keys(model: str, category: str) -> tuple[Key, ...]:
    return (KIND, model, category), (KIND, model, ""), (KIND, "", "")
