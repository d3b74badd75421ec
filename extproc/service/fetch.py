"""Fetches a page over plain HTTP/1.1, bounded in time and bytes, without a thread that could hang."""

import asyncio

HEAD_LIMIT = 64 * 1024
"""Bytes of status line and headers."""


class FetchError(Exception):
    """A page could not be fetched. The message says why."""


async def fetch(host: str, port: int, path: str, seconds: float, limit: int) -> bytes:
    """Return the page at `path`; of one longer than `limit` bytes, the whole lines within them.

    Closes the connection and follows no redirects. Raises `FetchError`, after `seconds` at the latest.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _get(host, port, path, limit)
    except TimeoutError:
        raise FetchError(f"no complete answer within {seconds:g} s") from None
    except OSError as error:
        raise FetchError(error.strerror or type(error).__name__) from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        raise FetchError("not an HTTP answer") from None


async def _get(host: str, port: int, path: str, limit: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, limit=HEAD_LIMIT)
    try:
        name = f"[{host}]" if ":" in host else host
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        version, _, status = head.partition(b"\r\n")[0].partition(b" ")
        if not version.startswith(b"http/1."):
            raise ValueError("no status line")
        if not status.startswith(b"200"):
            raise FetchError(f"HTTP status {status[:3].decode('ascii', 'replace')}")
        body = await (_chunked if b"\r\ntransfer-encoding: chunked\r\n" in head else _plain)(reader, limit)
    finally:
        writer.close()
    return body if len(body) <= limit else body[: body.rfind(b"\n", 0, limit) + 1]


async def _plain(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Read until the server closes the connection, or more than `limit` bytes have come."""
    body = bytearray()
    while len(body) <= limit and (piece := await reader.read(HEAD_LIMIT)):
        body += piece
    return bytes(body)


async def _chunked(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Read chunks (RFC 9112, section 7.1) to the last one, or until more than `limit` bytes have come."""
    body = bytearray()
    while len(body) <= limit:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size <= 0:
            break
        body += await reader.readexactly(min(size, limit + 1))
        await reader.readexactly(2)  # the line break, or more of a chunk that is too long
    return bytes(body)
