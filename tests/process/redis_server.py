"""A real Redis (Debian package `redis-server`) behind a proxy that can be told to be slow."""

import asyncio
import shutil
import signal
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis

from extproc.demo.process import Process

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="no redis-server: sharing through Redis is tested against a stand-in only",
)


class RedisServer:
    """Redis on a socket, and a proxy before it on a port that the kernel picks; entered, both run.

    `tls`: what the proxy serves with; None: plain text.
    """

    def __init__(self, directory: Path, password: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._socket = directory / "redis.sock"
        self._password = password
        self._tls = tls
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(directory)]
        secret = ["--requirepass", password] if password else []
        self._process = Process(["redis-server", *options, *secret], directory / "redis.log")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._delay = 0.0
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        self._thread.start()
        self._server: asyncio.Server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.stop()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Start Redis, empty."""
        self._process.__enter__()
        self._process.wait_for_output("eady to accept connections")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.popen.kill()
        self._process.popen.wait()

    def empty(self) -> None:
        """Delete everything."""
        with self.client() as client:
            client.flushall()

    def stop(self) -> None:
        """SIGSTOP: connections are taken, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def slow(self, seconds: float) -> None:
        """Delay every answer by `seconds`."""
        self._delay = seconds

    def client(self) -> "redis.Redis":
        """A client of its own, not through the proxy."""
        return redis.Redis(unix_socket_path=str(self._socket), password=self._password or None)

    @property
    def url(self) -> str:
        """Where the service finds it."""
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}"

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # a transport is closed some turns later
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(self._pass(reader, back, slow=False), self._pass(there, writer, slow=True))
        except OSError:
            pass  # Redis is away
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if slow:
                    await asyncio.sleep(self._delay)
                writer.write(data)
        finally:
            writer.close()
