"""Running a stand-in pool: in a thread (`PoolServer`), or as a process of its own (`python -m` this module)."""

import argparse
import asyncio
import signal
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from extproc.demo import tokens
from extproc.demo.pool import Behaviour, Pool

HOST = "127.0.0.1"


async def listen(pool: Pool, port: int, host: str = HOST) -> tuple[web.AppRunner, int]:
    """Serve `pool` on `port` (0: the kernel's choice) of `host`; return the runner to clean up, and the port."""
    runner = web.AppRunner(pool.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, int(runner.addresses[0][1])


async def _end(runner: web.AppRunner) -> None:
    """Clean up, and end what still waits for requests of connections that are closed now."""
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class PoolServer:
    """A pool on a loop and thread of its own, so that it answers whatever the caller does. A context manager."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"pool-{pool.name}", daemon=True)

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(listen(self.pool, self.port), self._loop)
        self._runner, self.port = started.result(30)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(_end(self._runner), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _run(pools: Sequence[tuple[Pool, int]], host: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tokens.count("")  # load the vocabulary now, not at the first request
    runners = []
    for pool, asked in pools:
        runner, port = await listen(pool, asked, host)
        runners.append(runner)
        print(f"pool {pool.name} on port {port}", flush=True)
    await stopping.wait()
    for runner in runners:
        await runner.cleanup()


def _pool(text: str) -> tuple[Pool, int]:
    """Read NAME=CAPACITY or NAME=CAPACITY:PORT."""
    name, _, numbers = text.partition("=")
    capacity, _, port = numbers.partition(":")
    return Pool(name, int(capacity)), int(port or 0)


def main() -> None:
    """Run pools until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Stand-in vLLM pools. The ports they listen on are printed.")
    parser.add_argument("pools", type=_pool, nargs="+", metavar="NAME=CAPACITY[:PORT]")
    parser.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between the events of a streamed answer")
    args = parser.parse_args()
    for pool, _ in args.pools:
        pool.behaviour = Behaviour(pace=args.pace)
    asyncio.run(_run(args.pools, args.host))


if __name__ == "__main__":
    main()
