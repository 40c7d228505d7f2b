"""The server's routes: OpenAI's, and those of vLLM's server that clients and dashboards ask for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from helpers.serving.answers import Answers, Piece
from helpers.serving.bodies import ChatBody, CompletionBody, TokenizeBody, parsed
from helpers.serving.calls import Serves
from helpers.serving.engine_loop import Loop
from helpers.serving.errors import ApiError, Draining, NoRoute
from helpers.serving.gate import Gate, error_response, read_body
from helpers.serving.logprob_lists import LogprobLists
from helpers.serving.metrics import ServerMetrics
from helpers.serving.prompts import Prompts
from helpers.serving.replies import ChatReply, Reply, TextReply
from helpers.serving.streams.event_stream import EventStream, cancelled


@dataclass(frozen=True)
class Service:
    """Hold what the routes need."""

    loop: Loop
    serves: Serves
    prompts: Prompts
    metrics: ServerMetrics

    async def answer(self, http: HttpRequest, reply: Reply, answers: Answers, stream: bool) -> Response:
        """Return the response to a call. What fails before the first piece has its own status."""
        first = await _unless_gone(http, anext(answers), answers)
        if first is None:
            return Response(status_code=499)
        if stream:
            return EventStream(reply.events(first, answers), answers)
        done = await _unless_gone(http, _gather(reply, first, answers), answers)
        return Response(status_code=499) if done is None else JSONResponse(reply.whole())


def make_app(service: Service, api_key: str | None = None) -> FastAPI:
    """Return the application; its end closes the engine's loop."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.loop.close)

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, api_key=api_key, limits=service.serves.limits)
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    _add_model_routes(app, service)
    _add_status_routes(app, service)
    return app


def _add_model_routes(app: FastAPI, service: Service) -> None:
    """Add the routes that ask the model."""
    # The event loop names tokens itself, so it must not wait for a thread's turn with the tokenizer.
    serves, names = service.serves, LogprobLists(service.prompts.copy().text_of)

    @app.post("/v1/completions")
    async def completions(http: HttpRequest) -> Response:
        body = parsed(CompletionBody, await read_body(http, serves.limits))
        serves.check_model(body.model)
        prompts = await asyncio.to_thread(service.prompts.of_completion, body)
        name = f"cmpl-{uuid.uuid4().hex}"
        requests = serves.requests(name, body, prompts)
        echoed = await asyncio.to_thread(service.prompts.texts_of, prompts) if body.echo else []
        answers = service.loop.submit(requests, body.n)
        reply = TextReply(name, serves.model, body, sum(map(len, prompts)), names, echoed=echoed)
        return await service.answer(http, reply, answers, body.stream)

    @app.post("/v1/chat/completions")
    async def chat(http: HttpRequest) -> Response:
        body = parsed(ChatBody, await read_body(http, serves.limits))
        serves.check_model(body.model)
        prompt = await asyncio.to_thread(service.prompts.of_chat, body.messages)
        name = f"chatcmpl-{uuid.uuid4().hex}"
        answers = service.loop.submit(serves.requests(name, body, [prompt]), body.n)
        reply = ChatReply(name, serves.model, body, len(prompt), names)
        return await service.answer(http, reply, answers, body.stream)

    @app.post("/tokenize")
    async def tokenize(http: HttpRequest) -> dict[str, Any]:
        body = parsed(TokenizeBody, await read_body(http, serves.limits))
        serves.check_model(body.model)
        tokens = await asyncio.to_thread(service.prompts.of_tokenize, body)
        return {"count": len(tokens), "max_model_len": serves.room + 1, "tokens": tokens}


def _add_status_routes(app: FastAPI, service: Service) -> None:
    """Add the routes that ask about the server."""
    serves = service.serves
    model = {"id": serves.model, "object": "model", "created": 0, "owned_by": "course"}
    model["max_model_len"] = serves.room + 1

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        serves.check_model(name)
        return model

    @app.get("/health")
    async def health() -> Response:
        if not service.loop.alive:
            raise Draining("the engine takes no requests")
        return Response(status_code=200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _gather(reply: Reply, first: Piece, answers: Answers) -> Reply:
    """Take all pieces of an answer that is sent as a whole."""
    reply.take(first)
    async for piece in answers:
        reply.take(piece)
    return reply


async def _unless_gone(http: HttpRequest, work: Any, answers: Answers) -> Any:
    """Return what `work` returns, or None when the client leaves first; then the answers are cancelled.

    A server that sends a whole answer hears of a client that has left only if it listens.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(http))
    left = True
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        left = not working.done()
        return None if left else working.result()
    except BaseException:
        left = True
        raise
    finally:
        if left:
            answers.close()
        await cancelled(working, leaving)


async def _gone(http: HttpRequest) -> None:
    """Return when the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _answer_error(_: HttpRequest, error: Exception) -> Response:
    """Answer with an error of this server."""
    return error_response(error if isinstance(error, ApiError) else ApiError(str(error)))


async def _answer_http_error(http: HttpRequest, error: Exception) -> Response:
    """Answer an unknown path or a wrong method in OpenAI's form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = f"{http.method} {http.url.path[:80]}: there is no such route"
    return error_response(NoRoute(words, status))


async def _answer_failure(_: HttpRequest, error: Exception) -> Response:
    """Answer a mistake of the server's own without its traceback, which the log has."""
    return error_response(ApiError(f"the server failed: {type(error).__name__}"))
