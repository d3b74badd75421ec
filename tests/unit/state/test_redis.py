"""Learned figures in Redis, against a stand-in that loses answers and refuses on demand."""

import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from extproc.budget.sums import Table
from extproc.config_service import Redis
from extproc.state import codec
from extproc.state import redis as module
from extproc.state.codec import AGEING_SECONDS, decode, encode
from extproc.state.redis import REST_SECONDS, WRITERS, RedisStore, connect
from extproc.state.store import StoreError
from extproc.state.sync import Sync
from tests.unit.budget.figures import GLOBAL, table
from tests.unit.budget.test_sharing import learner, teach
from tests.unit.state.standin import StandIn

HALF_LIFE = 3600.0


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def rest(self) -> None:
        """Let the time pass in which a server that failed is not asked."""
        self.now += REST_SECONDS


def store(server: StandIn, clock: Clock | None = None) -> RedisStore:
    return RedisStore(Redis(url=f"redis://127.0.0.1:{server.port}"), HALF_LIFE, clock or Clock())


def kept(server: StandIn) -> Table:
    return decode(server.values[b"dualpool"]).table


def unanswered(server: StandIn, one: RedisStore, pending: Table, whole: Table) -> None:
    """Exchange, and lose the answer to a write that the server has carried out."""
    server.lost = {"EXEC"}
    with pytest.raises(StoreError):
        one.exchange(pending, whole, limit=64)
    server.lost = set()


def test_an_empty_server_is_given_everything(server: StandIn) -> None:
    """The first replica, or whoever finds a Redis restarted empty, writes all that is known."""
    assert store(server).read() == {}
    assert store(server).exchange(table(1), table(5), limit=64) == table(5)
    assert kept(server) == table(5)
    assert store(server).read() == table(5)


def test_who_knows_nothing_begins_nothing(server: StandIn) -> None:
    """What it wrote others would take for what is known by all."""
    assert store(server).exchange({}, {}, limit=64) is None
    store(server).replace({}, limit=64)
    assert server.values == {}


def test_a_server_begun_anew_takes_nothing_away(server: StandIn) -> None:
    """A replica that knew little came first: those that know more give it back, and what is new counts once."""
    clock = Clock()
    one, two, new = store(server, clock), store(server), store(server)
    one.exchange({}, table(40), limit=64)
    assert two.exchange({}, {}, limit=64) == table(40)
    server.set(b"dualpool", b"")
    assert new.exchange(table(1), table(1), limit=64) == table(1)
    unanswered(server, one, table(2), table(42))
    clock.rest()
    assert one.exchange(table(2), table(42), limit=64) == table(42)
    assert two.exchange(table(3), table(43), limit=64) == table(45)
    assert new.exchange(table(4), table(5), limit=64) == kept(server) == table(49)


def test_an_exchange_with_a_server_begun_anew_takes_as_many_steps(server: StandIn) -> None:
    """Those of any other."""
    one = store(server)
    one.exchange({}, table(40), limit=64)
    server.received.clear()
    one.exchange(table(1), table(41), limit=64)
    usual = list(server.received)
    server.set(b"dualpool", encode(table(1), 0.0, lineage="another"))
    server.received.clear()
    one.exchange(table(1), table(42), limit=64)
    assert server.received == usual


def test_an_exchange_merges(server: StandIn) -> None:
    """What is kept and what is new become what all have."""
    first, second = store(server), store(server)
    first.exchange({}, table(5), limit=64)
    assert second.exchange(table(2), table(2), limit=64) == table(7)
    assert first.exchange({}, table(5), limit=64) == table(7)


def test_an_exchange_without_news_reads_a_few_bytes(server: StandIn) -> None:
    """Nobody has written, nothing is pending: the figures are neither fetched nor written."""
    one = store(server)
    one.exchange({}, table(5), limit=64)
    server.received.clear()
    assert one.exchange({}, table(5), limit=64) is None
    assert server.received == ["GETRANGE"]


def test_a_write_that_came_in_between_is_not_overwritten(server: StandIn) -> None:
    """Another replica writes between our read and our write: both are there in the end."""
    one, other = store(server), store(server)
    one.exchange({}, table(5), limit=64)

    def meanwhile() -> None:
        del server.before["MULTI"]
        other.exchange(table(2), table(2), limit=64)

    server.before["MULTI"] = meanwhile
    assert one.exchange(table(1), table(6), limit=64) == table(8)


def test_a_write_whose_answer_was_lost_is_not_merged_again(server: StandIn) -> None:
    """The same offer, made again, is known by its number, whether others have written since or not."""
    clock = Clock()
    one, other = store(server, clock), store(server)
    one.exchange({}, table(5), limit=64)
    unanswered(server, one, table(1), table(6))
    other.exchange(table(2), table(2), limit=64)
    clock.rest()
    assert one.exchange(table(1), table(6), limit=64) == table(8)
    assert one.exchange(table(1), table(9), limit=64) == table(9)


def test_a_first_write_whose_answer_was_lost_is_not_merged_again(server: StandIn) -> None:
    """Nor when what was written was everything."""
    clock = Clock()
    one = store(server, clock)
    unanswered(server, one, table(1), table(5))
    clock.rest()
    assert one.exchange(table(1), table(5), limit=64) == table(5)


@pytest.mark.parametrize("command", ["WATCH", "GETRANGE", "TIME", "MULTI", "SET", "EXEC"])
def test_an_answer_lost_anywhere_counts_everything_once(server: StandIn, command: str) -> None:
    """Whichever answer does not come, each observation is there once when the server works again."""
    clock = Clock()
    one = store(server, clock)
    one.exchange({}, table(5), limit=64)
    server.lost = {command}
    with pytest.raises(StoreError, match=r"^state\.redis: redis://127\.0\.0\.1:"):
        one.exchange(table(1), table(6), limit=64)
    server.lost = set()
    clock.rest()
    one.exchange(table(1), table(6), limit=64)
    assert kept(server) == table(6)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("GETRANGE", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SET", "OOM command not allowed when used memory > 'maxmemory'."),
        ("EXEC", "EXECABORT Transaction discarded because of previous errors."),
        ("SET", "READONLY You can't write against a read only replica."),
        ("WATCH", "NOAUTH Authentication required."),
        ("TIME", "ERR unknown command"),
    ],
)
def test_a_server_that_refuses_is_a_store_error(server: StandIn, command: str, error: str) -> None:
    """Its reason is told; the offer is taken when it has come round."""
    clock = Clock()
    one = store(server, clock)
    server.set(b"dualpool", encode(table(5), 0.0))
    server.clock = lambda: 0.0
    server.errors[command] = error
    with pytest.raises(StoreError):
        one.exchange(table(1), table(6), limit=64)
    server.errors.clear()
    clock.rest()
    assert one.exchange(table(1), table(6), limit=64) == table(6)


@pytest.mark.parametrize("data", [b"torn", b"x" * 300, encode(table(1), 0.0)[:-3]])
def test_what_is_not_ours_is_left_alone(server: StandIn, data: bytes) -> None:
    """Somebody else's value under our key is not overwritten; the message says what to do."""
    server.set(b"dualpool", data)
    one = store(server)
    with pytest.raises(StoreError, match=r"'dualpool' is left alone: .*; delete it, or set state\.redis\.name"):
        one.exchange(table(1), table(1), limit=64)
    assert server.values[b"dualpool"] == data


def test_a_huge_value_is_not_fetched_whole(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can fill our memory through the key."""
    for each in (module, codec):
        monkeypatch.setattr(each, "LARGEST", 300)
    server.set(b"dualpool", encode(table(1), 0.0) + b" " * 300)
    with pytest.raises(StoreError, match="longer than 300 bytes"):
        store(server).read()


def test_a_server_that_failed_is_left_in_peace_for_a_while(server: StandIn) -> None:
    """One that hangs would hold up the state file at every turn."""
    clock = Clock()
    one = store(server, clock)
    server.lost = {"WATCH"}
    for _ in range(3):
        with pytest.raises(StoreError):
            one.exchange(table(1), table(1), limit=64)
    assert server.received.count("WATCH") == 1


def test_figures_fade_by_the_clock_of_the_server(server: StandIn) -> None:
    """Replicas whose clocks differ agree on the age of what they share."""
    server.clock = lambda: 1000.0
    store(server).exchange({}, table(8), limit=64)
    server.clock = lambda: 1000.0 + HALF_LIFE
    assert store(server).read()[GLOBAL].samples == 4
    assert store(server).exchange(table(1), table(1), limit=64) == {GLOBAL: table(4)[GLOBAL].then(table(1)[GLOBAL])}


def test_what_running_replicas_share_does_not_age(server: StandIn) -> None:
    """One of them writes it again though nothing is new, so one that starts finds it young."""
    clock, now = Clock(), [1000.0]
    server.clock = lambda: now[0]
    one, other = store(server, clock), store(server, clock)
    one.exchange({}, table(8), limit=64)
    assert other.exchange({}, {}, limit=64) == table(8)
    for _ in range(3):
        now[0] += HALF_LIFE
        clock.now += AGEING_SECONDS
        server.received.clear()
        for replica in (one, other):
            replica.exchange({}, table(8), limit=64)
        assert server.received.count("SET") == 1
        assert store(server).read() == table(8)


def test_the_list_of_replicas_stays_short(server: StandIn) -> None:
    """Of replicas that come and go only the last ones are remembered."""
    writers = {f"old-{number}": 1 for number in range(2 * WRITERS)}
    server.clock = lambda: 0.0
    server.set(b"dualpool", encode(table(1), 0.0, writers))
    store(server).exchange(table(1), table(1), limit=64)
    remembered = decode(server.values[b"dualpool"]).writers
    assert len(remembered) == WRITERS
    assert f"old-{2 * WRITERS - 1}" in remembered


def test_a_server_written_to_all_the_time_is_given_up_for_now(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts are bounded."""
    monkeypatch.setattr(module, "ATTEMPTS", 3)
    server.before["MULTI"] = lambda: server.set(b"dualpool", server.values.get(b"dualpool", b""))
    with pytest.raises(StoreError, match="3 times in a row"):
        store(server).exchange(table(1), table(1), limit=64)


def test_replace(server: StandIn) -> None:
    """What there is gives way, and is known again at the next exchange."""
    one = store(server)
    one.exchange({}, table(5), limit=64)
    one.replace(table(2), limit=64)
    assert kept(server) == table(2)
    server.received.clear()
    assert one.exchange({}, table(2), limit=64) is None
    assert server.received == ["GETRANGE"]


def test_the_password_goes_to_the_server_and_into_no_message(server: StandIn) -> None:
    """A refused password is not repeated in the error."""
    settings = Redis(url=f"redis://me@127.0.0.1:{server.port}", password=SecretStr("sesame"))
    server.errors["AUTH"] = "WRONGPASS invalid username-password pair"
    with pytest.raises(StoreError) as raised:
        RedisStore(settings, HALF_LIFE).read()
    assert "AUTH" in server.received
    assert "sesame" not in f"{raised.value!r} {raised.value.__cause__!r} {settings!r}"


async def test_replicas_that_learn_at_once_end_with_all_of_it(server: StandIn) -> None:
    """Many writers, answers lost at random: each observation is counted exactly once by all of them."""
    clock = Clock()
    replicas = [learner("redis") for _ in range(3)]
    syncs = [Sync(one, [store(server, clock)], 0.01, lambda *_: None) for one in replicas]
    lose = iter([(), (), ("EXEC",), ("GETRANGE",), ("EXEC",), ("TIME",), (), ("EXEC",)] * 3)
    for lost in lose:
        server.lost = set(lost)
        for one, sync in zip(replicas, syncs, strict=True):
            teach(one, 4.0, 1)
            await sync.exchange()
        clock.rest()
    server.lost = set()
    for _ in range(3):
        for sync in syncs:
            await sync.exchange()
    assert [one.export()[GLOBAL].samples for one in replicas] == [3 * 24] * 3


def test_two_threads_lose_nothing(server: StandIn) -> None:
    """Replicas that write at the same moment do not undo each other."""

    def work(one: RedisStore) -> None:
        for _ in range(20):
            one.exchange(table(1), table(1), limit=64)

    threads = [threading.Thread(target=work, args=(store(server),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(server)[GLOBAL].samples == 60


def test_who_wrote_last_is_forgotten_last(server: StandIn) -> None:
    """A replica that writes again is no longer the one that has been silent for longest."""
    one, other = store(server), store(server)
    for each in (one, other, one):
        each.exchange(table(1), table(1), limit=64)
    assert list(decode(server.values[b"dualpool"]).writers) == [other._me, one._me]


def test_a_client_shows_its_certificate(tmp_path: Path) -> None:
    """Every file that is configured is used in the connection."""
    files = {}
    for name in ("ca", "certificate", "certificate_key"):
        files[name] = tmp_path / name
        files[name].touch()
    made = vars(connect(Redis(url="rediss://127.0.0.1", **files)).connection_pool.make_connection())
    used = {"ca": made["ca_certs"], "certificate": made["certfile"], "certificate_key": made["keyfile"]}
    assert used == {name: str(path) for name, path in files.items()}
