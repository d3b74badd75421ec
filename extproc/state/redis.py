"""Learned figures in Redis, or in any server that speaks its protocol: shared by replicas on different machines.

One key holds what a state file holds. A replica reads it, merges what it has learned and writes it back, unless the
key has changed meanwhile (WATCH), when it does so again. Beside the figures stands, for each replica, the number of
what it merged last. So a write whose answer was lost is found out by the next read: nothing is merged twice.

Used: WATCH, UNWATCH, MULTI, EXEC, GETRANGE, SET, TIME, and AUTH and SELECT where the URL asks for them.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from extproc.budget.sums import Table, merge
from extproc.config import Redis
from extproc.state.codec import AGEING_SECONDS, LARGEST, Ageing, BadStateError, Stored, decode, encode
from extproc.state.store import StoreError, new_lineage, updated

TIMEOUT_SECONDS = 0.5
"""For the connection, and for each answer."""

REST_SECONDS = 5.0
"""After a failure it is not asked for so long: a server that hangs holds up the other stores one time in many."""

ATTEMPTS = 20
"""Exchanges tried in a row when others are faster. Each time one is refused another has got through."""

WRITERS = 256
"""Replicas whose last number is kept; those that wrote last."""

HEAD = 192
"""Bytes of a state that differ from those of every other: they hold its time and its checksum."""


class RedisStore:
    """A key as a store. `half_life`: seconds after which confidence is halved."""

    name = "redis"

    def __init__(self, settings: Redis, half_life: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lineage = ""
        self._key = settings.name
        self._url = settings.url
        self._ageing = Ageing(half_life)
        self._clock = clock
        self._client = connect(settings)
        self._me = secrets.token_hex(8)
        self._number = 1  # of the offer that is being delivered
        self._seen: bytes | None = None
        self._looked = 0.0  # when, by the clock, that was seen
        self._resting = (0.0, "")

    def read(self) -> Table:
        """Return what is kept, faded by its age by the clock of the server."""
        with self._errors():
            data = self._get(self._client, LARGEST + 1)
            kept = self._ageing.aged(decode(data) if data else None, _seconds(self._client.time()))
            self.lineage = kept.lineage
            return kept.table

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into the key and return the result; None when it is what was last returned."""
        with self._errors():
            fresh = self._clock() - self._looked < AGEING_SECONDS
            if fresh and not pending and self._seen and self._seen == self._get(self._client, HEAD):
                return None
            for _ in range(ATTEMPTS):
                try:
                    return self._exchange(pending, whole, limit)
                except redis.WatchError as error:
                    if error.__context__ is not None:  # the client calls a lost connection by the same name
                        raise error.__context__ from None
        raise StoreError(f"state.redis: {self._url}: written by others each time, {ATTEMPTS} times in a row")

    def replace(self, whole: Table, limit: int) -> None:
        """Keep `whole` instead of what there is."""
        if not whole:
            return
        with self._errors():
            self.lineage = self.lineage or new_lineage()
            data = encode(merge({}, whole, limit), _seconds(self._client.time()), lineage=self.lineage)
            self._client.set(self._key, data)
            self._seen = data[:HEAD]

    def _exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """One attempt. Raises `redis.WatchError` when somebody else has written meanwhile."""
        with self._client.pipeline() as pipe:
            pipe.watch(self._key)  # type: ignore[no-untyped-call]  # the package types all but this
            data = self._get(pipe, LARGEST + 1)  # at once: a pipeline that watches does not queue
            now = _seconds(pipe.time())
            kept = self._ageing.aged(decode(data) if data else None, now)
            taken = kept.writers.get(self._me) == self._number
            new = None if taken else updated(kept, pending, whole, limit, self.lineage, now)
            if new is not None:
                data = encode(new.table, now, self._writers(kept), new.lineage)
                pipe.multi()
                pipe.set(self._key, data)
                pipe.execute()
                kept = new
            self._taken(data, kept.lineage)
            return kept.table or None

    def _get(self, client: "redis.Redis", most: int) -> bytes:
        """The first `most` bytes of the value; none when there is no such key."""
        data = client.getrange(self._key, 0, most - 1)
        assert isinstance(data, bytes)  # decode_responses is off
        return data

    def _taken(self, data: bytes, lineage: str) -> None:
        self._number += 1
        self._seen = data[:HEAD]
        self._looked = self._clock()
        self.lineage = lineage

    def _writers(self, stored: Stored) -> dict[str, int]:
        """The numbers that stand beside the figures once the offer is among them."""
        others = [item for item in stored.writers.items() if item[0] != self._me]
        return {**dict(others[1 - WRITERS :]), self._me: self._number}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        until, why = self._resting
        if self._clock() < until:
            raise StoreError(why)
        try:
            yield
        except StoreError:
            raise
        except BadStateError as error:
            why = f"the value of {self._key!r} is left alone: {error}; delete it, or set state.redis.name"
            raise self._failed(why) from None
        except Exception as error:  # a server that speaks something else makes the client raise anything
            # A late answer must not be taken for that of the next command.
            self._client.connection_pool.disconnect()
            raise self._failed(str(error) or type(error).__name__) from None

    def _failed(self, why: str) -> StoreError:
        error = StoreError(f"state.redis: {self._url}: {why}")
        self._resting = (self._clock() + REST_SECONDS, str(error))
        return error


def connect(settings: Redis) -> "redis.Redis":
    """Return a client that asks once and waits `TIMEOUT_SECONDS` at most for each answer; it connects later."""
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
        protocol=2,  # what every server speaks
        **{name: str(path) for name, path in files.items() if path},
    )


def _seconds(now: tuple[int, int]) -> float:
    """The server's time, seconds since 1970: replicas need not agree on theirs."""
    return now[0] + now[1] / 1e6
