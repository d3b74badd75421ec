"""Learned figures in Redis, or any server that speaks its protocol: shared by replicas on different machines.

One key holds what a state file holds. A replica reads it, merges in what it has learned and writes the result
back; if the key has changed meanwhile (WATCH), it starts over. With the figures is stored, for each replica, the
number of the offer that it merged last. So after a write whose answer was lost, the next read shows whether it
took effect, and nothing is merged twice.

Commands used: WATCH, UNWATCH, MULTI, EXEC, GETRANGE, SET, TIME, and AUTH and SELECT where configured. The client
also sends CLIENT SETINFO, which a server may refuse.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from extproc.budget.sums import Table, merge
from extproc.config_service import Redis
from extproc.state.codec import AGEING_SECONDS, LARGEST, Ageing, BadStateError, Stored, decode, encode
from extproc.state.store import StoreError, new_lineage, updated

TIMEOUT_SECONDS = 0.5
"""For connecting, and for each answer."""

REST_SECONDS = 5.0
"""After a failure the server is left alone for this long: if it hangs, it would hold up other stores each time."""

ATTEMPTS = 20
"""Attempts at an exchange when other replicas write in between. Each time one fails, another has succeeded."""

WRITERS = 256
"""Replicas whose last offer number is stored: those that wrote most recently."""

HEAD = 192
"""Leading bytes of a state that tell it from every other: they hold its time and checksum."""


class RedisStore:
    """A key as a store. `half_life`: seconds after which figures count half."""

    name = "redis"

    def __init__(self, settings: Redis, half_life: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lineage = ""
        self._key = settings.name
        self._url = settings.url
        self._ageing = Ageing(half_life)
        self._clock = clock
        self._client = connect(settings)
        self._me = secrets.token_hex(8)
        self._number = 1  # of the offer being delivered
        self._seen: bytes | None = None
        self._looked = 0.0  # when `_seen` was read, by the clock
        self._resting = (0.0, "")

    def read(self) -> Table:
        """Return the stored figures, faded by their age by the server's clock."""
        with self._errors():
            data = self._get(self._client, LARGEST + 1)
            kept = self._ageing.aged(decode(data) if data else None, _seconds(self._client.time()))
            self.lineage = kept.lineage
            return kept.table

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into the key and return the result; None when the key holds what was last returned."""
        with self._errors():
            fresh = self._clock() - self._looked < AGEING_SECONDS
            if fresh and not pending and self._seen and self._seen == self._get(self._client, HEAD):
                return None
            for _ in range(ATTEMPTS):
                try:
                    return self._exchange(pending, whole, limit)
                except redis.WatchError as error:
                    if error.__context__ is not None:  # the client raises the same for a lost connection
                        raise error.__context__ from None
        raise StoreError(f"state.redis: {self._url}: written by others each time, {ATTEMPTS} times in a row")

    def replace(self, whole: Table, limit: int) -> None:
        """Store `whole` in the place of what the key holds."""
        if not whole:
            return
        with self._errors():
            self.lineage = self.lineage or new_lineage()
            data = encode(merge({}, whole, limit), _seconds(self._client.time()), lineage=self.lineage)
            self._client.set(self._key, data)
            self._seen = data[:HEAD]

    def _exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Attempt an exchange once. Raises `redis.WatchError` when another replica has written meanwhile."""
        with self._client.pipeline() as pipe:
            pipe.watch(self._key)  # type: ignore[no-untyped-call]  # the package types all but this
            data = self._get(pipe, LARGEST + 1)  # runs at once: a pipeline that watches does not queue
            now = _seconds(pipe.time())
            kept = self._ageing.aged(decode(data) if data else None, now)
            merged = kept.writers.get(self._me) == self._number  # by an attempt whose answer was lost
            new = None if merged else updated(kept, pending, whole, limit, self.lineage, now)
            if new is not None:
                data = encode(new.table, now, self._writers(kept), new.lineage)
                pipe.multi()
                pipe.set(self._key, data)
                pipe.execute()
                kept = new
            self._taken(data, kept.lineage)
            return kept.table or None

    def _get(self, client: "redis.Redis", most: int) -> bytes:
        """Return the first `most` bytes of the value, none when there is no such key."""
        data = client.getrange(self._key, 0, most - 1)
        assert isinstance(data, bytes)  # decode_responses is off
        return data

    def _taken(self, data: bytes, lineage: str) -> None:
        self._number += 1
        self._seen = data[:HEAD]
        self._looked = self._clock()
        self.lineage = lineage

    def _writers(self, stored: Stored) -> dict[str, int]:
        """Return the offer numbers to store with the figures once our offer is merged."""
        others = [item for item in stored.writers.items() if item[0] != self._me]
        return {**dict(others[1 - WRITERS :]), self._me: self._number}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        until, why = self._resting
        if self._clock() < until:
            raise StoreError(why)
        try:
            yield
        except BadStateError as error:
            why = f"the value of {self._key!r} is left alone: {error}; delete it, or set state.redis.name"
            raise self._failed(why) from None
        except Exception as error:  # the client may raise anything when the server does not speak Redis
            # Otherwise a late answer would be taken for that of the next command.
            self._client.connection_pool.disconnect()
            raise self._failed(str(error) or type(error).__name__) from None

    def _failed(self, why: str) -> StoreError:
        error = StoreError(f"state.redis: {self._url}: {why}")
        self._resting = (self._clock() + REST_SECONDS, str(error))
        return error


def connect(settings: Redis) -> "redis.Redis":
    """Return a client that connects lazily, never retries, and waits `TIMEOUT_SECONDS` at most for an answer."""
    files = {
        "ssl_ca_certs": settings.ca,
        "ssl_certfile": settings.certificate,
        "ssl_keyfile": settings.certificate_key,
    }
    return redis.Redis.from_url(
        settings.url,
        password=settings.password.get_secret_value() if settings.password else None,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # which every server speaks
        **{name: str(path) for name, path in files.items() if path},
    )


def _seconds(now: tuple[int, int]) -> float:
    """Return the server's time in seconds since 1970: the clocks of replicas need not agree."""
    return now[0] + now[1] / 1e6
