"""A stand-in vLLM pool: OpenAI-compatible HTTP, a real context limit, real token counts, no model.

Deterministic: the length of an answer depends on the prompt alone. It keeps a log of what reached it, so that a
test can see where a request landed, and can be told to misbehave.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aiohttp import web

from extproc.demo import answers, prompt
from extproc.demo.answers import Answer
from extproc.demo.prompt import BadPromptError, Prompt

APIS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings")
LOG_LIMIT = 20_000
BODY_LIMIT = 256 * 1024 * 1024
SERVED_BY = "x-served-by"
_HELD_SECONDS = 0.01


@dataclass(frozen=True)
class Received:
    """A request that reached the pool. `prompt_tokens`: true tokens of its longest prompt, None if not counted."""

    method: str
    path: str
    headers: dict[str, str]
    size: int
    status: int
    prompt_tokens: int | None


@dataclass(frozen=True)
class Behaviour:
    """How answers are given; the defaults are a pool that works.

    `delay`: seconds before an answer. `held`: nothing is answered until this behaviour is replaced. `slots`:
    requests that run at once, the others wait (vLLM: `--max-num-seqs`). `metrics`: False hides /metrics. `pace`:
    seconds between events, or between pieces of `piece` bytes. `status`: answered to everything, unread.
    `completion`: tokens of an answer that nothing limits. `usage`: False leaves it out. `prompt_tokens`: reported
    in place of the true ones. `padding`: bytes put ahead of a JSON answer's usage. `cut_after`: events sent before
    the connection is closed. `compress`: gzip.
    """

    delay: float = 0.0
    held: bool = False
    slots: int = 256
    metrics: bool = True
    pace: float = 0.0
    piece: int | None = None
    status: int | None = None
    completion: int | None = None
    usage: bool = True
    prompt_tokens: int | None = None
    padding: int = 0
    cut_after: int | None = None
    compress: bool = False


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


@dataclass
class Pool:
    """One pool of `capacity` tokens (`max_model_len`)."""

    name: str
    capacity: int
    model: str = "stand-in"
    behaviour: Behaviour = Behaviour()
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=LOG_LIMIT))
    running: int = 0
    waiting: int = 0
    served: int = 0
    _turn: asyncio.Condition = field(default_factory=asyncio.Condition)

    def app(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(client_max_size=BODY_LIMIT)
        for path in APIS:
            app.router.add_post(path, self._generate)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health", self._health)
        app.router.add_get("/_received", self._log)
        return app

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        async with self._place():
            return await self._generate_now(request, raw)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for one of the `slots`, and hold it."""
        self.waiting += 1
        try:
            async with self._turn:
                await self._turn.wait_for(lambda: self.running < self.behaviour.slots)
                self.running += 1
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self.running -= 1
            async with self._turn:
                self._turn.notify_all()

    async def _generate_now(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        counted: Prompt | None = None
        status = 500
        try:
            await asyncio.sleep(self.behaviour.delay)
            while self.behaviour.held:
                await asyncio.sleep(_HELD_SECONDS)
            if self.behaviour.status is not None:
                raise RefusedError(self.behaviour.status, "told to fail")
            counted = _parse(request.path, raw)
            answer = self._answer(counted)
            status = 200
            # Logged before the answer begins: whoever has read it finds the request in the log.
            self._record(request, len(raw), status, counted)
            if counted.stream and request.path != "/v1/embeddings":
                return await self._stream(request, answer)
            return self._whole(request, answer)
        except RefusedError as refused:
            self._record(request, len(raw), refused.status, counted)
            return self._refuse(request, refused)
        finally:
            self.served += status == 200

    def _answer(self, counted: Prompt) -> Answer:
        """Decide what is said. Raises `RefusedError` when it does not fit, with vLLM's message."""
        longest = max(counted.sizes)
        room = self.capacity - longest
        asked = counted.cap if counted.cap is not None else 1
        if asked > room:
            raise RefusedError(400, self._too_long(counted), "input_tokens")
        natural = self.behaviour.completion or 16 + counted.digest % 240
        limit = room if counted.cap is None else counted.cap
        if self.behaviour.prompt_tokens is not None:
            counted = replace(counted, sizes=(self.behaviour.prompt_tokens,))
        return Answer(counted, min(natural, limit), "length" if natural > limit else "stop", self.behaviour.usage)

    def _too_long(self, counted: Prompt) -> str:
        output = counted.cap or 0
        # vLLM stops counting one token past what fits, hence "at least".
        least = max(self.capacity - output, 0) + 1
        return (
            f"This model's maximum context length is {self.capacity} tokens. However, you requested {output} "
            f"output tokens and your prompt contains at least {least} input tokens, for a total of at least "
            f"{least + output} tokens. Please reduce the length of the input prompt or the number of requested "
            f"output tokens. (parameter=input_tokens, value={least})"
        )

    def _whole(self, request: web.Request, answer: Answer) -> web.Response:
        body = answers.whole(request.path, answer)
        if self.behaviour.padding:
            body = {"padding": "0" * self.behaviour.padding, **body}
        response = web.json_response(body, headers=self._headers())
        if self.behaviour.compress:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        headers = {**self._headers(), "content-type": "text/event-stream; charset=utf-8"}
        response = web.StreamResponse(headers=headers)
        if self.behaviour.compress:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        for number, event in enumerate(answers.events(request.path, answer)):
            if number == self.behaviour.cut_after:
                if request.transport is not None:
                    request.transport.close()
                break
            piece = self.behaviour.piece or len(event)
            for start in range(0, len(event), piece):
                await response.write(event[start : start + piece])
                await asyncio.sleep(self.behaviour.pace)
        return response

    def _refuse(self, request: web.Request, refusal: RefusedError) -> web.Response:
        kind = "BadRequestError" if refusal.status == 400 else "InternalServerError"
        error: dict[str, Any] = {"message": str(refusal), "type": kind}
        if request.path == "/v1/messages":
            body: dict[str, Any] = {"type": "error", "error": error}
        else:
            body = {"error": {**error, "param": refusal.param, "code": refusal.status}}
        return web.json_response(body, status=refusal.status, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {SERVED_BY: self.name}

    def _record(self, request: web.Request, size: int, status: int, counted: Prompt | None) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        tokens = max(counted.sizes) if counted is not None else None
        self.received.append(Received(request.method, request.path, headers, size, status, tokens))

    async def _models(self, request: web.Request) -> web.Response:
        self._record(request, 0, 200, None)
        model = {"id": self.model, "object": "model", "created": answers.CREATED, "owned_by": "vllm"}
        model |= {"root": self.model, "parent": None, "max_model_len": self.capacity}
        return web.json_response({"object": "list", "data": [model]}, headers=self._headers())

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _log(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self.received])

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.behaviour.metrics:
            return web.Response(status=404)
        return web.Response(text="".join(self._metric_lines()), content_type="text/plain")

    def _metric_lines(self) -> Iterator[str]:
        label = f'{{model_name="{self.model}"}}'
        values: dict[str, tuple[str, float]] = {
            "vllm:num_requests_running": ("gauge", self.running),
            "vllm:num_requests_waiting": ("gauge", self.waiting),
            "vllm:kv_cache_usage_perc": ("gauge", min(self.running / 256, 1.0)),
            "vllm:request_success_total": ("counter", self.served),
        }
        for name, (kind, value) in values.items():
            yield f"# TYPE {name.removesuffix('_total')} {kind}\n{name}{label} {float(value)}\n"


def _parse(path: str, raw: bytes) -> Prompt:
    try:
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise BadPromptError("the body is not an object")
        return prompt.read(path, body)
    except (ValueError, RecursionError, BadPromptError) as error:
        raise RefusedError(400, str(error)) from error
