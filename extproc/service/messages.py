"""The messages the service sends. Those that never change are built once, at import or start."""

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
"""By kind of message: let it pass unchanged."""


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
"""Answers to response headers that say how the body is to be sent here."""


_ASK_NOTHING = pb.ProcessingResponse(
    mode_override=pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        request_body_mode=pb.ProcessingMode.NONE,
        response_header_mode=pb.ProcessingMode.SKIP,
        response_body_mode=pb.ProcessingMode.NONE,
    )
).SerializeToString()
"""Appended to an answer, since fields may come in any order."""


@functools.cache
def ask_for_answer(
    request_body: pb.ProcessingMode.BodySendMode, answer_body: pb.ProcessingMode.BodySendMode
) -> bytes:
    """Ask for the headers of the answer; bodies are sent as before. Appended to an answer to request headers."""
    mode = pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        request_body_mode=request_body,
        response_header_mode=pb.ProcessingMode.SEND,
        response_body_mode=answer_body,
    )
    return pb.ProcessingResponse(mode_override=mode).SerializeToString()


def echo(body: pb.HttpBody, *, request: bool) -> bytes:
    """Send a chunk of a request's or an answer's body back as it came: in the duplex modes it goes on only so."""
    streamed = pb.StreamedBodyResponse(body=body.body, end_of_stream=body.end_of_stream)
    answer = pb.BodyResponse(response=pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed)))
    message = pb.ProcessingResponse(request_body=answer) if request else pb.ProcessingResponse(response_body=answer)
    return message.SerializeToString()


class RoutingReplies:
    """Answers that send a request to a pool, by the name of the routing header.

    All but the metadata depends on the pool alone and is built once for each. `ticket`: see `metadata`.
    """

    def __init__(self, header: str) -> None:
        self._header = header
        self._headers: dict[str, bytes] = {}
        self._bodies: dict[str, bytes] = {}

    def headers(self, decision: Decision, ticket: str = "") -> bytes:
        """Answer request headers with the pool of `decision`."""
        return self.provisional(decision.pool.name) + metadata(decision, ticket)

    def provisional(self, pool: str) -> bytes:
        """Answer request headers with the pool a request goes to unless its body says otherwise."""
        answer = self._headers.get(pool)
        if answer is None:
            message = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=self._route(pool)))
            answer = self._headers[pool] = message.SerializeToString()
        return answer

    def early(self, decision: Decision, ticket: str = "") -> bytes:
        """Answer request headers with the pool of `decision`, and ask for nothing more of request and answer."""
        return self.headers(decision, ticket) + _ASK_NOTHING

    def body(self, decision: Decision, ticket: str = "") -> bytes:
        """Answer a request body with the pool of `decision`."""
        pool = decision.pool.name
        answer = self._bodies.get(pool)
        if answer is None:
            message = pb.ProcessingResponse(request_body=pb.BodyResponse(response=self._route(pool)))
            answer = self._bodies[pool] = message.SerializeToString()
        return answer + metadata(decision, ticket)

    def _route(self, pool: str) -> pb.CommonResponse:
        option = pb.HeaderValueOption(
            header=pb.HeaderValue(key=self._header, raw_value=pool.encode()),
            append_action=pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        return pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=[option]), clear_route_cache=True)
