"""The messages that the service sends. Those that never change are built once, at import or at first use."""

import functools

from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.decision import Decision
from extproc.service.metadata import answer_seen, metadata

CONTINUE = {
    "request_headers": pb.ProcessingResponse(request_headers=pb.HeadersResponse()).SerializeToString(),
    "response_headers": pb.ProcessingResponse(response_headers=pb.HeadersResponse()).SerializeToString(),
    "request_body": pb.ProcessingResponse(request_body=pb.BodyResponse()).SerializeToString(),
    "response_body": pb.ProcessingResponse(response_body=pb.BodyResponse()).SerializeToString(),
    "request_trailers": pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString(),
    "response_trailers": pb.ProcessingResponse(response_trailers=pb.TrailersResponse()).SerializeToString(),
}
"""By kind of message: the reply that lets it pass unchanged."""


def _with_body_mode(mode: pb.ProcessingMode.BodySendMode) -> bytes:
    message = pb.ProcessingResponse(
        response_headers=pb.HeadersResponse(),
        mode_override=pb.ProcessingMode(
            request_header_mode=pb.ProcessingMode.SEND,
            response_header_mode=pb.ProcessingMode.SEND,
            response_body_mode=mode,
        ),
    )
    return message.SerializeToString() + answer_seen()


READ_NOTHING = _with_body_mode(pb.ProcessingMode.NONE)
READ_WHOLE = _with_body_mode(pb.ProcessingMode.BUFFERED_PARTIAL)
READ_STREAM = _with_body_mode(pb.ProcessingMode.STREAMED)
"""Replies to response headers, by how the body is to be sent here."""

_ASK_NOTHING = pb.ProcessingResponse(
    mode_override=pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        request_body_mode=pb.ProcessingMode.NONE,
        response_header_mode=pb.ProcessingMode.SKIP,
        response_body_mode=pb.ProcessingMode.NONE,
    )
).SerializeToString()
"""Appended to a reply to request headers: protobuf fields may come in any order."""


@functools.cache
def ask_for_answer(
    request_body: pb.ProcessingMode.BodySendMode, answer_body: pb.ProcessingMode.BodySendMode
) -> bytes:
    """Ask for the headers of the answer, body modes unchanged. To be appended to a reply to request headers."""
    mode = pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        request_body_mode=request_body,
        response_header_mode=pb.ProcessingMode.SEND,
        response_body_mode=answer_body,
    )
    return pb.ProcessingResponse(mode_override=mode).SerializeToString()


def echo(body: pb.HttpBody, *, request: bool) -> bytes:
    """Send a chunk of a body back as it came: in the duplex modes Envoy forwards nothing else."""
    streamed = pb.StreamedBodyResponse(body=body.body, end_of_stream=body.end_of_stream)
    reply = pb.BodyResponse(response=pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed)))
    message = pb.ProcessingResponse(request_body=reply) if request else pb.ProcessingResponse(response_body=reply)
    return message.SerializeToString()


class RoutingReplies:
    """Replies that send a request to a pool by setting the routing header.

    All but the metadata depends on the pool alone, and is built once for each. `ticket`: see `metadata`.
    """

    def __init__(self, header: str) -> None:
        self._header = header
        self._headers: dict[str, bytes] = {}
        self._bodies: dict[str, bytes] = {}

    def headers(self, decision: Decision, ticket: str) -> bytes:
        """Reply to request headers with the pool of `decision`."""
        return self.provisional(decision.pool.name) + metadata(decision, ticket)

    def provisional(self, pool: str) -> bytes:
        """Reply to request headers with the pool that the request goes to unless its body says otherwise."""
        reply = self._headers.get(pool)
        if reply is None:
            message = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=self._route(pool)))
            reply = self._headers[pool] = message.SerializeToString()
        return reply

    def early(self, decision: Decision, ticket: str) -> bytes:
        """Reply to request headers with the pool of `decision`, and turn off all further messages."""
        return self.headers(decision, ticket) + _ASK_NOTHING

    def untouched(self, decision: Decision, ticket: str) -> bytes:
        """Let a request go where it goes by itself, and turn off all further messages."""
        return CONTINUE["request_headers"] + metadata(decision, ticket) + _ASK_NOTHING

    def body(self, decision: Decision, ticket: str) -> bytes:
        """Reply to a request body with the pool of `decision`."""
        pool = decision.pool.name
        reply = self._bodies.get(pool)
        if reply is None:
            message = pb.ProcessingResponse(request_body=pb.BodyResponse(response=self._route(pool)))
            reply = self._bodies[pool] = message.SerializeToString()
        return reply + metadata(decision, ticket)

    def _route(self, pool: str) -> pb.CommonResponse:
        option = pb.HeaderValueOption(
            header=pb.HeaderValue(key=self._header, raw_value=pool.encode()),
            append_action=pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        return pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=[option]), clear_route_cache=True)
