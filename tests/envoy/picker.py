"""A stand-in for an endpoint picker of the Gateway API Inference Extension, as far as a proxy sees it.

It reads a request whole (FULL_DUPLEX_STREAMED), then names the server that is to decode in one header, which the
proxy follows, and the one that is to prefill in another, which the decoding server follows.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from types import TracebackType
from typing import Self

import grpc

from extproc.demo.pool_server import HOST
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.service.messages import CONTINUE, echo
from extproc.service.server import SERVICE

DESTINATION = "x-gateway-destination-endpoint"
PREFILL = "x-prefiller-host-port"


class Picker:
    """Takes turns among the servers of one pool. `decode`, `prefill`: HOST:PORT. A context manager."""

    def __init__(self, decode: Sequence[str], prefill: str) -> None:
        self._turns = cycle(decode)
        self._prefill = prefill
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(self._process)
        generic = grpc.method_handlers_generic_handler(SERVICE, {"Process": handler})
        self._server.add_generic_rpc_handlers((generic,))
        self.port = self._server.add_insecure_port(f"{HOST}:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.stop(None).wait()

    def _process(self, messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        held: list[bytes] = []
        for raw in messages:
            message = pb.ProcessingRequest.FromString(raw)
            kind = str(message.WhichOneof("request"))
            if kind == "request_body":
                held.append(echo(message.request_body, request=True))
                if message.request_body.end_of_stream:
                    yield self._pick()
                    yield from held
            elif kind == "response_body":
                yield echo(message.response_body, request=False)
            elif kind != "request_headers":  # those are answered when the body has come
                yield CONTINUE[kind]

    def _pick(self) -> bytes:
        named = {DESTINATION: next(self._turns), PREFILL: self._prefill}
        headers = [
            pb.HeaderValueOption(
                header=pb.HeaderValue(key=key, raw_value=value.encode()),
                append_action=pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
            )
            for key, value in named.items()
        ]
        change = pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=headers))
        return pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=change)).SerializeToString()
