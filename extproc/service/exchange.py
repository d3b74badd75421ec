"""One ext_proc stream as a state machine: messages in, replies out, no I/O.

A stream is one HTTP request. Envoy sends the request's headers and body, then the headers and perhaps the body of
the answer, each as one message, and waits for a reply to each. The pool is decided at the request's body, or at its
headers where the body stays in Envoy. Usage is learned at the end of the answer.
"""

import logging
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from extproc.budget.observation import Observation
from extproc.metrics import ExchangeEnd
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.decision import Decision
from extproc.routing.router import Head
from extproc.routing.settings import NO_SETTINGS, RouteSettings
from extproc.service.answer import Answer
from extproc.service.context import Context
from extproc.service.logs import origin
from extproc.service.messages import CONTINUE, READ_NOTHING, READ_STREAM, READ_WHOLE, ask_for_answer, echo
from extproc.service.metadata import LIFTED_NAMESPACE, plain
from extproc.service.received import attempts_of, has_room, size_of, values_of
from extproc.service.route_settings import Pairs

log = logging.getLogger(__name__)

_DUPLEX = (pb.ProcessingMode.FULL_DUPLEX_STREAMED, pb.ProcessingMode.GRPC)
_BUFFERED = (pb.ProcessingMode.BUFFERED, pb.ProcessingMode.BUFFERED_PARTIAL)

COLLECTED = 16 * 1024
"""A piece of an answer of this many bytes or more is what Envoy has buffered up to its limit. Nobody sets
that lower, and a stream comes in smaller pieces."""

_USUAL_MODES = pb.ProtocolConfiguration(request_body_mode=pb.ProcessingMode.BUFFERED_PARTIAL)
"""Assumed of an Envoy that sends no `protocol_config`."""


class Exchange:
    """Replies to the messages of one stream. `close` must be called when the stream ends, however it ends.

    `initial`: our settings in the stream's gRPC metadata (`extproc.service.route_settings.own_settings`).
    """

    def __init__(self, context: Context, initial: Pairs = ()) -> None:
        self._context = context
        self._initial = initial
        self._settings = NO_SETTINGS
        self._head: Head | None = None
        self._modes = _USUAL_MODES
        self._decision: Decision | None = None
        self._answer: Answer | None = None
        self._ticket = ""
        context.metrics.exchange_opened()
        self._end: ExchangeEnd = "closed"
        self.complete = False
        """Whether nothing more is expected from Envoy, so that the service may end the stream."""
        self.answered = False
        """Whether the answer has begun, at whose end Envoy resets the stream."""

    def handle(self, message: bytes) -> bytes | None:
        """Return the reply to a serialized `ProcessingRequest`; None when the stream is to be closed.

        A processor that has nothing more to add closes its stream, and Envoy goes on without it. Never raises:
        whatever goes wrong, the request goes to the default pool and the reason is counted.
        """
        try:
            request = pb.ProcessingRequest.FromString(message)
        except DecodeError:
            self._end = "undecodable"
            return None
        kind = request.WhichOneof("request")
        if kind is None:
            self._end = "unknown_message"
            return None
        if request.HasField("protocol_config"):
            self._modes = request.protocol_config
        cut = self._is_cut(kind, request)
        try:
            reply = self._handle(kind, request)
            self.complete |= self.decided and not self._settings.answers and not self._is_duplex
        except Exception as error:
            log.error("exchange failed at %s: %s", kind, type(error).__name__)
            log.debug("exchange failed:\n%s", origin(error))
            self._end = "failed"
            reply = self._fallback(kind, told=not cut)
        return None if cut else reply

    def _is_cut(self, kind: str, request: pb.ProcessingRequest) -> bool:
        """Whether a message holds the part of a body that fits Envoy's buffer, and Envoy has more.

        It gets no reply: Envoy (1.36 to 1.40) would forget the end of the body if that has come meanwhile, and the
        request would hang. Ending the exchange lets all of it go.
        """
        if kind == "request_body":
            return not self._is_whole(request.request_body)
        if kind != "response_body" or request.response_body.end_of_stream:
            return False
        mode = self._modes.response_body_mode
        streamed = self._answer is not None and self._answer.streamed
        if mode == pb.ProcessingMode.BUFFERED_PARTIAL:
            # Envoy does not say whether it follows our READ_STREAM (allow_mode_override). The size of pieces tells.
            return not streamed or len(request.response_body.body) >= COLLECTED
        return self._answer is not None and not (streamed or self._answers_stream or mode in _DUPLEX)

    def _is_whole(self, message: pb.HttpBody) -> bool:
        # A short body without an end is followed by trailers. But if it is replied to, Envoy 1.37 sends it twice.
        return message.end_of_stream or self._modes.request_body_mode != pb.ProcessingMode.BUFFERED_PARTIAL

    @property
    def decided(self) -> bool:
        """Whether it is known where the request goes."""
        return self._decision is not None

    @property
    def given_up(self) -> bool:
        """Whether the exchange has stopped waiting for the body of the request."""
        return self._end == "slow"

    def give_up(self) -> None:
        """Stop waiting for the body of the request. Does nothing once the pool is decided."""
        if self._decision is None:
            self._decision = self._context.router.unread("slow", self._settings)
            self._context.metrics.decided(self._decision, 0.0)  # no ticket: it could not be sent any more
            self._end = "slow"

    def close(self) -> None:
        """End the exchange, and learn from as much of the answer as has come."""
        try:
            self._finish(whole=False)
        finally:
            self._context.metrics.exchange_ended(self._end)

    def _handle(self, kind: str, request: pb.ProcessingRequest) -> bytes:
        if kind == "request_headers":
            self._settings = self._read_settings(request)
            return self._request_headers(request)
        if kind == "request_body":
            return self._request_body(request.request_body)
        self.answered = True
        if kind == "response_headers":
            return self._response_headers(request)
        if kind == "response_body":
            return self._response_body(request.response_body)
        if kind == "response_trailers":
            self._finish()
        return CONTINUE[kind]

    def _fallback(self, kind: str, told: bool) -> bytes:
        if kind in ("request_headers", "request_body") and self._decision is None:
            decision = self._context.router.unread("error", self._settings)
            self._decided(decision, 0.0, told)
            return self._route_at_headers(decision) if kind == "request_headers" else self._route_at_body(decision)
        return CONTINUE[kind]

    # The request.

    def _request_headers(self, request: pb.ProcessingRequest) -> bytes:
        context = self._context
        message = request.request_headers
        if not has_room(message.headers):
            return self._leave_alone()
        values = values_of(message.headers)
        self._head = head = self._read_head(values)
        if message.end_of_stream:
            return self._route_at_headers(self._decide(b"", whole=True))
        size = size_of(values, request)
        if self._modes.request_body_mode not in _BUFFERED or not self._settings.body:
            return self._route_at_headers(self._decide_without_body(head, request, size))
        early = context.router.decide_early(head, size or 0, self._settings)
        if early is not None:
            self._decided(early, 0.0)
            self.complete = not self._is_duplex
            return context.replies.early(early, self._ticket)
        # The body decides. If Envoy cuts it, Envoy keeps the route picked now, so that must be the largest pool.
        return context.replies.provisional(context.router.default_pool(self._settings).name) + self._asking()

    def _leave_alone(self) -> bytes:
        """Let a request go where it goes without us, since it has no room for the routing header."""
        decision = self._context.router.unread("many_headers", self._settings)
        self._decided(decision, 0.0)
        self.complete = not self._is_duplex
        return self._context.replies.untouched(decision, self._ticket)

    def _asking(self) -> bytes:
        """Ask for the headers of the answer, where answers come by the exchange.

        The filter does not send them unasked: Envoy's own 400 to malformed request headers would wait for our reply
        on a connection that is closed at once, and be lost. The duplex modes send everything in any case.
        """
        if self._is_duplex or not self._settings.answers:
            return b""
        return ask_for_answer(self._modes.request_body_mode, self._modes.response_body_mode)

    @property
    def _is_duplex(self) -> bool:
        return self._modes.request_body_mode in _DUPLEX or self._modes.response_body_mode in _DUPLEX

    def _decide_without_body(self, head: Head, request: pb.ProcessingRequest, size: int | None) -> Decision:
        """Decide at the headers, by the fields that Envoy's filters lifted from a body that does not come here."""
        context = self._context
        started = context.clock()
        spaces = request.metadata_context.filter_metadata
        lifted = plain(spaces[LIFTED_NAMESPACE]) if LIFTED_NAMESPACE in spaces else {}
        decision = context.router.decide_by_size(head, lifted, size, self._settings)
        self._decided(decision, context.clock() - started)
        return decision

    def _read_settings(self, request: pb.ProcessingRequest) -> RouteSettings:
        parsed = self._context.route_settings.read(self._initial, request.attributes)
        for name in parsed.bad:
            self._context.metrics.route_setting_ignored(name)
        return parsed.settings

    def _read_head(self, values: Mapping[str, bytes]) -> Head:
        context = self._context

        def text(name: str | None) -> str:
            return values.get(name or "", b"").decode("utf-8", "surrogateescape")

        return Head(
            method=text(":method"),
            path=text(":path"),
            category=text(context.category_header),
            conversation=text(context.conversation_header),
            request_id=text("x-request-id"),
        )

    def _request_body(self, message: pb.HttpBody) -> bytes:
        if self._modes.request_body_mode in _DUPLEX:
            return echo(message, request=True)
        if self._decision is not None:
            return CONTINUE["request_body"]
        return self._route_at_body(self._decide(message.body, self._is_whole(message)))

    def _route_at_headers(self, decision: Decision) -> bytes:
        """Reply to request headers with a decision that no body will change."""
        reply = self._context.replies.headers(decision, self._ticket)
        if decision.observation is not None:
            return reply + self._asking()
        self.complete = not self._is_duplex  # there is nothing to learn from its answer
        return reply

    def _route_at_body(self, decision: Decision) -> bytes:
        return self._context.replies.body(decision, self._ticket)

    def _decide(self, body: bytes, whole: bool) -> Decision:
        context = self._context
        started = context.clock()
        if self._head is None:  # the filter does not send headers
            decision = context.router.unread("unknown_path", self._settings)
        else:
            decision = context.router.decide(self._head, body, whole, self._settings)
        self._decided(decision, context.clock() - started, told=whole)
        return decision

    def _decided(self, decision: Decision, seconds: float, told: bool = True) -> None:
        """Count a decision. `told`: Envoy will hear of it, so the access log can say when the request ended."""
        self._decision = decision
        self._context.metrics.decided(decision, seconds)
        if told and self._context.in_flight is not None:
            self._ticket = self._context.in_flight.begin(decision.pool.name)

    # The answer.

    def _response_headers(self, request: pb.ProcessingRequest) -> bytes:
        message = request.response_headers
        observation = self._decision.observation if self._decision is not None else None
        if observation is None:
            return self._read_nothing()
        values = values_of(message.headers)
        attempts = attempts_of(request)
        self._answer = answer = Answer(observation, values, attempts)
        retried = attempts is not None and attempts > 1  # always read: usage tells if it was a misroute
        if answer.unread is None and not retried and not self._is_sampled(observation):
            self._answer = None
            self._context.metrics.answer_unread("sampling")
            return self._read_nothing()
        if answer.unread is not None:
            self._context.metrics.answer_unread(answer.unread)
        if answer.unread is not None or message.end_of_stream:
            self._finish()
            return self._read_nothing()
        return READ_STREAM if answer.streamed or self._answers_stream else READ_WHOLE

    def _read_nothing(self) -> bytes:
        # In the duplex modes the body comes whatever the reply is, and has to be echoed.
        self.complete = self._modes.response_body_mode not in _DUPLEX
        return READ_NOTHING

    def _is_sampled(self, request: Observation) -> bool:
        """Whether to read this answer: every one until the figures it teaches are settled, then a random share."""
        context = self._context
        if context.answers_percent >= 100 or context.draw() * 100 < context.answers_percent:
            return True
        return not context.learner.is_settled(request)

    @property
    def _answers_stream(self) -> bool:
        return self._modes.response_body_mode == pb.ProcessingMode.STREAMED

    def _response_body(self, message: pb.HttpBody) -> bytes:
        if self._answer is not None:
            self._answer.feed(message.body)
        if message.end_of_stream:
            self._finish()
            self.complete = True
        if self._modes.response_body_mode in _DUPLEX:
            return echo(message, request=False)
        return CONTINUE["response_body"]

    def _finish(self, whole: bool = True) -> None:
        """Learn from the answer, once. `whole`: it was received to its end."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        observation = answer.observation(whole)
        verdict = self._context.learner.learn(observation)
        if verdict == "no_usage" and answer.unparsable:
            verdict = "unparsable"
        self._context.metrics.observed(observation, verdict)
