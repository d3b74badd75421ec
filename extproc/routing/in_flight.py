"""Counts the requests in each pool now: decisions less the ends reported by the access log.

A difference of two counts drifts: log entries are lost, processes restart, one worker decides and another is told
of the end. So decisions are counted in buckets of half a minute, and each request carries a ticket that names its
bucket and the service that issued it. An end is counted against that bucket, whichever worker hears of it.
Tickets of other services and of earlier starts are not counted. What is left in a bucket older than the longest
request was lost. No single request is remembered.
"""

import time
from collections.abc import Callable, Iterable, Mapping

BUCKET_SECONDS = 30.0
"""A look at the pools goes through all buckets: those of 5 s, of hundreds of pools, held up requests for 0.25 s."""

MOST_POOLS = 1024
LOST_SHARE = 0.05
"""When more than this share of the decisions never ended, the access log does not come here, or not all of it."""

ENOUGH = 20
"""Decisions it takes to judge that share."""

Tally = dict[str, dict[int, tuple[int, int]]]
"""Decisions and ends by pool and bucket."""


class InFlight:
    """The count of one process.

    `instance`: names the service, the same for all its workers. `clock`: seconds, monotonic, shared by all
    processes of the machine. `tally`: the counts of the process that this one replaces.
    """

    def __init__(
        self, instance: str, clock: Callable[[], float] = time.monotonic, tally: Tally | None = None
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._tally: Tally = tally or {}
        self._bucket = -1
        self._ticket = ""

    def begin(self, pool: str) -> str:
        """Count a decision for `pool` and return the request's ticket."""
        bucket = int(self._clock() // BUCKET_SECONDS)
        if bucket != self._bucket:
            self._bucket, self._ticket = bucket, f"{self._instance}.{bucket}"
        self._count(pool, bucket, 1, 0)
        return self._ticket

    def end(self, pool: str, ticket: str) -> None:
        """Count the end of the request with `ticket`, unless another service issued it."""
        instance, _, number = ticket.rpartition(".")
        now = int(self._clock() // BUCKET_SECONDS)
        if instance == self._instance and number.isdecimal() and len(number) < 16 and int(number) <= now:
            self._count(pool, int(number), 0, 1)

    def forget(self) -> None:
        """Drop all counts, where ends are not counted from now on."""
        self._tally = {}

    def tally(self, longest: float) -> Tally:
        """Return the counts, after dropping those too old for requests that last `longest` seconds at most."""
        judged = max(longest, BUCKET_SECONDS)  # at least a whole bucket, by which `standing` judges the access log
        oldest = int((self._clock() - longest - judged) // BUCKET_SECONDS)
        self._tally = {
            pool: {bucket: counts for bucket, counts in buckets.items() if bucket >= oldest}
            for pool, buckets in self._tally.items()
        }
        return self._tally

    def _count(self, pool: str, bucket: int, begun: int, ended: int) -> None:
        if pool not in self._tally and len(self._tally) >= MOST_POOLS:
            return
        buckets = self._tally.setdefault(pool, {})
        before = buckets.get(bucket, (0, 0))
        buckets[bucket] = before[0] + begun, before[1] + ended


def standing(tallies: Iterable[Tally], now: float, longest: float) -> Mapping[str, int] | None:
    """Return the requests in each pool at `now` (seconds, by the clock of the tallies), summed over all processes.

    None when the access log cannot be relied on: it has reported no end yet, or too many decisions older than
    `longest` seconds have never ended.
    """
    oldest = int((now - longest) // BUCKET_SECONDS)
    present: dict[str, int] = {}
    decisions = lost = ends = 0
    for pool, buckets in _together(tallies).items():
        present[pool] = 0
        for bucket, (begun, ended) in buckets.items():
            left = begun - ended if begun > ended else 0
            ends += ended
            if bucket >= oldest:
                present[pool] += left
            else:
                decisions += begun
                lost += left
    if not ends or (decisions >= ENOUGH and lost > LOST_SHARE * decisions):
        return None
    return present


def _together(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of the counts of several processes."""
    whole: Tally = {}
    for tally in tallies:
        for pool, buckets in tally.items():
            if pool not in whole:
                whole[pool] = dict(buckets)
                continue
            known = whole[pool]
            for bucket, (begun, ended) in buckets.items():
                before = known.get(bucket, (0, 0))
                known[bucket] = before[0] + begun, before[1] + ended
    return whole
