"""A stand-in for a Redis server: strings, WATCH and MULTI, and whatever goes wrong on demand."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase

Reply = bytes
OK: Reply = b"+OK\r\n"


class StandIn:
    """What clients see.

    `lost`: commands that are carried out, but whose answer never comes. `errors`: commands that are refused, with
    the error. `before`: called before a command is carried out. `received`: names of commands.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.versions: dict[bytes, int] = {}
        self.lost: set[str] = set()
        self.errors: dict[str, str] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.received: list[str] = []
        self.clock: Callable[[], float] = time.time
        self.port = 0
        self._lock = threading.Lock()

    def set(self, key: bytes, value: bytes) -> None:
        """Change a value, as any client may."""
        self.values[key] = value
        self.versions[key] = self.versions.get(key, 0) + 1

    def serve(self, read: BufferedIOBase, write: BufferedIOBase) -> None:
        """Answer one connection until it ends, or an answer is lost."""
        session = _Session(self)
        while command := _command(read):
            name = command[0].decode().upper()
            self.received.append(name)
            self.before.get(name, lambda: None)()
            with self._lock:
                error = self.errors.get(name)
                reply = f"-{error}\r\n".encode() if error else session.answer(name, command[1:])
            if name in self.lost:
                return
            write.write(reply)
            write.flush()


class _Session:
    def __init__(self, server: StandIn) -> None:
        self._server = server
        self._watched: dict[bytes, int] = {}
        self._queued: list[tuple[str, list[bytes]]] | None = None

    def answer(self, name: str, arguments: list[bytes]) -> Reply:
        if self._queued is not None and name not in ("EXEC", "DISCARD"):
            self._queued.append((name, arguments))
            return b"+QUEUED\r\n"
        return self._execute() if name == "EXEC" else self._do(name, arguments)

    def _do(self, name: str, arguments: list[bytes]) -> Reply:
        if name == "WATCH":
            self._watched[arguments[0]] = self._server.versions.get(arguments[0], 0)
        elif name == "MULTI":
            self._queued = []
        elif name == "UNWATCH":
            self._watched = {}
        elif name == "SET":
            self._server.set(arguments[0], arguments[1])
        elif name == "GETRANGE":
            return _bulk(self._server.values.get(arguments[0], b"")[int(arguments[1]) : int(arguments[2]) + 1])
        elif name == "TIME":
            return b"*2\r\n" + _bulk(str(int(self._server.clock())).encode()) + _bulk(b"0")
        return OK

    def _execute(self) -> Reply:
        queued, self._queued = self._queued or [], None
        watched, self._watched = self._watched, {}
        if any(self._server.versions.get(key, 0) != version for key, version in watched.items()):
            return b"*-1\r\n"
        return f"*{len(queued)}\r\n".encode() + b"".join(self._do(*command) for command in queued)


def _bulk(value: bytes) -> Reply:
    return f"${len(value)}\r\n".encode() + value + b"\r\n"


def _command(read: BufferedIOBase) -> list[bytes]:
    """Read one command; none when the client has gone."""
    line = read.readline()
    if not line:
        return []
    parts = []
    for _ in range(int(line[1:])):
        size = int(read.readline()[1:])
        parts.append(read.read(size + 2)[:-2])
    return parts


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """Serve a stand-in on a free port of this machine."""
    stand_in = StandIn()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            stand_in.serve(self.rfile, self.wfile)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stand_in.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield stand_in
        server.shutdown()
        thread.join()
