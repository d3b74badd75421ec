"""One ext_proc stream as a state machine: messages in, answers out, no I/O.

A stream is one HTTP request. Envoy sends its headers, its body, the headers and perhaps the body of its answer,
each as one message that waits for ours. The pool is decided at the request's body, or at its headers where the body
stays in Envoy, the usage learned at the end of the answer.
"""

import logging
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from extproc.budget.observation import Observation
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.decision import Decision
from extproc.routing.router import Head
from extproc.routing.settings import NO_SETTINGS, RouteSettings
from extproc.service.answer import Answer
from extproc.service.context import Context
from extproc.service.messages import CONTINUE, READ_NOTHING, READ_STREAM, READ_WHOLE, ask_answer, echo
from extproc.service.metadata import LIFTED_NAMESPACE, plain
from extproc.service.received import attempts_of, size_of, values_of
from extproc.service.route_settings import Pairs

log = logging.getLogger(__name__)

_DUPLEX = (pb.ProcessingMode.FULL_DUPLEX_STREAMED, pb.ProcessingMode.GRPC)
_BUFFERED = (pb.ProcessingMode.BUFFERED, pb.ProcessingMode.BUFFERED_PARTIAL)
_USUAL_MODES = pb.ProtocolConfiguration(request_body_mode=pb.ProcessingMode.BUFFERED_PARTIAL)
"""What is assumed of an Envoy that does not say."""


class Exchange:
    """Answers the messages of one stream. `close` must be called when it ends, however it ends.

    `initial`: what the stream's gRPC metadata says to us (`extproc.service.route_settings.ours`).
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
        self._end = "closed"
        self.complete = False
        """Whether Envoy has nothing more to say that is waited for."""

    def handle(self, message: bytes) -> bytes | None:
        """Return the answer to a serialized `ProcessingRequest`; None when the stream is to be closed.

        Closing is how an external processor says that it has nothing more to add: Envoy goes on without it. Never
        raises: whatever goes wrong, the request goes to the default pool and the reason is counted.
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
        try:
            answer = self._handle(kind, request)
            self.complete |= self.decided and not self._settings.answers and not self._is_duplex
            return answer
        except Exception as error:
            # Nothing of the traffic is logged: the type is enough to find the place, with the debug log on.
            log.error("exchange failed at %s: %s", kind, type(error).__name__)
            log.debug("exchange failed", exc_info=True)
            self._end = "failed"
            return self._fallback(kind)

    @property
    def decided(self) -> bool:
        """Whether it is known where the request goes."""
        return self._decision is not None

    @property
    def given_up(self) -> bool:
        """Whether the body of the request was not waited for any longer."""
        return self._end == "slow"

    def give_up(self) -> None:
        """Take note that the body of the request has not come in time. Does nothing once it is decided."""
        if self._decision is None:
            self._decision = self._context.router.unread("slow", self._settings)
            self._context.metrics.decided(self._decision, 0.0)  # without a ticket, which could not be sent any more
            self._end = "slow"

    def close(self) -> None:
        """End the exchange: learn what its answer said, if it said anything."""
        try:
            self._finish(whole=False)
        finally:
            self._context.metrics.exchange_ended(self._end)

    def _handle(self, kind: str, request: pb.ProcessingRequest) -> bytes | None:
        if kind == "request_headers":
            self._settings = self._read_settings(request)
            return self._request_headers(request)
        if kind == "request_body":
            return self._request_body(request.request_body)
        if kind == "response_headers":
            return self._response_headers(request)
        if kind == "response_body":
            return self._response_body(request.response_body)
        if kind == "response_trailers":
            self._finish()
        return CONTINUE[kind]

    def _fallback(self, kind: str) -> bytes:
        if kind in ("request_headers", "request_body") and self._decision is None:
            decision = self._context.router.unread("error", self._settings)
            self._decided(decision, 0.0)
            return self._route_at_headers(decision) if kind == "request_headers" else self._route_at_body(decision)
        return CONTINUE[kind]

    # The request.

    def _request_headers(self, request: pb.ProcessingRequest) -> bytes:
        context = self._context
        message = request.request_headers
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
            return context.answers.early(early, self._ticket)
        # The body decides. If it is cut, Envoy keeps the route picked now, so that must be the largest pool.
        return context.answers.provisional(context.router.default_pool(self._settings).name) + self._asking()

    def _asking(self) -> bytes:
        """Ask for the answer, where that is what Dualpool learns from.

        It does not come unasked: Envoy's own answer to malformed headers would wait for us on a connection that is
        closed at once, and be lost. Where whole streams come in any case nothing can be asked for.
        """
        if self._is_duplex or not self._settings.answers:
            return b""
        return ask_answer(self._modes.request_body_mode, self._modes.response_body_mode)

    @property
    def _is_duplex(self) -> bool:
        return self._modes.request_body_mode in _DUPLEX or self._modes.response_body_mode in _DUPLEX

    def _decide_without_body(self, head: Head, request: pb.ProcessingRequest, size: int | None) -> Decision:
        """Decide by what Envoy's filters lifted from a body that could no longer change the route."""
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

    def _request_body(self, message: pb.HttpBody) -> bytes | None:
        mode = self._modes.request_body_mode
        if mode in _DUPLEX:
            return echo(message, request=True)
        if self._decision is not None:
            return CONTINUE["request_body"]
        whole = message.end_of_stream or mode == pb.ProcessingMode.BUFFERED
        decision = self._decide(message.body, whole)
        # A cut body keeps the route of its headers. It gets no answer: Envoy (1.36 to 1.40) would forget the end of
        # the body if that has come meanwhile, and the request would hang. The end of the exchange frees it whole.
        return self._route_at_body(decision) if whole else None

    def _route_at_headers(self, decision: Decision) -> bytes:
        """Answer request headers with a decision that no body will change."""
        answer = self._context.answers.headers(decision, self._ticket)
        if decision.observation is not None:
            return answer + self._asking()
        self.complete = not self._is_duplex  # nothing can be learned of it
        return answer

    def _route_at_body(self, decision: Decision) -> bytes:
        return self._context.answers.body(decision, self._ticket)

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
        """`told`: Envoy is, so the access log will say when the request ended."""
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
        # A body that is to be sent back comes, whatever is answered here.
        self.complete = self._modes.response_body_mode not in _DUPLEX
        return READ_NOTHING

    def _is_sampled(self, request: Observation) -> bool:
        """Whether this answer is among those that are read: all, until what it would teach is settled."""
        context = self._context
        if context.answers_percent >= 100 or context.draw() * 100 < context.answers_percent:
            return True
        return not context.learner.is_settled(request)

    @property
    def _answers_stream(self) -> bool:
        return self._modes.response_body_mode == pb.ProcessingMode.STREAMED

    def _response_body(self, message: pb.HttpBody) -> bytes | None:
        answer = self._answer
        if answer is not None:
            answer.feed(message.body)
        if message.end_of_stream:
            self._finish()
            self.complete = True
        if self._modes.response_body_mode in _DUPLEX:
            return echo(message, request=False)
        if answer is not None and not (message.end_of_stream or answer.streamed or self._answers_stream):
            return None  # it was cut: see `_request_body`
        return CONTINUE["response_body"]

    def _finish(self, whole: bool = True) -> None:
        """Learn from the answer, once. `whole`: it came to its end."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        observation = answer.observation(whole)
        verdict = self._context.learner.learn(observation)
        if verdict == "no_usage" and answer.unparsable:
            verdict = "unparsable"
        self._context.metrics.observed(observation, verdict)
