"""The messages the service sends. Those that never change are built once, at import or start."""

from google.protobuf.struct_pb2 import Struct

from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.decision import Decision

METADATA_NAMESPACE = "dualpool"

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
    return pb.ProcessingResponse(
        response_headers=pb.HeadersResponse(),
        mode_override=pb.ProcessingMode(
            request_header_mode=pb.ProcessingMode.SEND,
            response_header_mode=pb.ProcessingMode.SEND,
            response_body_mode=mode,
        ),
    ).SerializeToString()


READ_NOTHING = _with_body_mode(pb.ProcessingMode.NONE)
READ_WHOLE = _with_body_mode(pb.ProcessingMode.BUFFERED_PARTIAL)
READ_STREAM = _with_body_mode(pb.ProcessingMode.STREAMED)
"""Answers to response headers that say how the body is to be sent here."""


def echo(body: pb.HttpBody, *, request: bool) -> bytes:
    """Send a chunk of a request's or an answer's body back as it came: in the duplex modes it goes on only so."""
    streamed = pb.StreamedBodyResponse(body=body.body, end_of_stream=body.end_of_stream)
    answer = pb.BodyResponse(response=pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed)))
    message = pb.ProcessingResponse(request_body=answer) if request else pb.ProcessingResponse(response_body=answer)
    return message.SerializeToString()


class RoutingAnswers:
    """Answers that send a request to a pool, by the name of the routing header."""

    def __init__(self, header: str) -> None:
        self._header = header

    def headers(self, decision: Decision) -> bytes:
        """Answer request headers with the pool of `decision`."""
        return pb.ProcessingResponse(
            request_headers=pb.HeadersResponse(response=self._route(decision.pool.name)),
            dynamic_metadata=metadata(decision),
        ).SerializeToString()

    def provisional(self, pool: str) -> bytes:
        """Answer request headers with the pool a request goes to unless its body says otherwise."""
        return pb.ProcessingResponse(
            request_headers=pb.HeadersResponse(response=self._route(pool))
        ).SerializeToString()

    def body(self, decision: Decision) -> bytes:
        """Answer a request body with the pool of `decision`."""
        return pb.ProcessingResponse(
            request_body=pb.BodyResponse(response=self._route(decision.pool.name)),
            dynamic_metadata=metadata(decision),
        ).SerializeToString()

    def _route(self, pool: str) -> pb.CommonResponse:
        option = pb.HeaderValueOption(
            header=pb.HeaderValue(key=self._header, raw_value=pool.encode()),
            append_action=pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        return pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=[option]), clear_route_cache=True)


def metadata(decision: Decision) -> Struct:
    """Return the decision, and all an `Observation` needs, as dynamic metadata in namespace `dualpool`."""
    values: dict[str, str | float | bool] = {
        "pool": decision.pool.name,
        "chosen": decision.chosen.name,
        "reason": decision.reason,
    }
    if decision.estimate is not None and decision.reserve is not None:
        values |= {
            "estimate": decision.estimate.tokens,
            "upper": decision.estimate.upper,
            "source": decision.estimate.source,
            "reserve": decision.reserve.tokens,
            "reserve_source": decision.reserve.source,
            "budget": decision.budget,
        }
    seen = decision.observation
    if seen is not None:
        values |= {
            "model": seen.model,
            "category": seen.category,
            "basis": seen.basis,
            "features": ",".join(f"{f:g}" if f % 1 else str(int(f)) for f in seen.features),
            "expected": seen.estimate,
            "prompts": seen.prompts,
            "choices": seen.choices,
            "teaches": seen.teaches,
            "capacity": seen.capacity,
            "largest": seen.largest,
        }
        if seen.cap is not None:
            values["cap"] = seen.cap
    struct = Struct()
    struct.update({METADATA_NAMESPACE: values})
    return struct
