"""Day 64 · The endpoints of the server, those of OpenAI's API that complete texts.

    GET  /v1/models, /v1/models/NAME      which model is here
    POST /v1/completions                  a text is continued
    POST /v1/chat/completions             a conversation is continued
    GET  /health, /metrics                is it well, and how busy is it

Everything that is refused is refused before the model sees it, with a status and one line that
says what to change. Left out: TLS, accounts and several models, which a proxy in front does better.
Sources: OpenAI, API reference; RFC 9110, section 15.5, and RFC 6585, section 4, for the statuses.
"""

import asyncio
import contextlib
import hmac
import json
import re
import time

from llm.generate import delivery
from llm.generate.answered import Answer
from llm.generate.asked import read
from llm.generate.formats import Formats
from llm.generate.refused import Refused

MOST_BODY = 1 << 20            # bytes of a request
LOCAL = {"127.0.0.1", "localhost", "[::1]"}


class Service:
    """The endpoints around one model and its worker. key: what clients must show, if anything;
    hosts: the names under which it may be called, None for any."""

    def __init__(self, model, worker, key=None, hosts=None):
        self.model, self.worker, self.key, self.hosts = model, worker, key, hosts
        self.formats, self.began = Formats(model), int(time.time())

    def app(self):
        """The Starlette application; its start and end are the worker's."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        @contextlib.asynccontextmanager
        async def life(app):
            self.worker.start()
            yield
            await asyncio.to_thread(self.worker.close)

        routes = [("/v1/models", self.models, "GET"), ("/v1/models/{name:path}", self.one, "GET"),
                  ("/v1/completions", self.completions, "POST"),
                  ("/v1/chat/completions", self.chat, "POST"),
                  ("/health", self.health, "GET"), ("/metrics", self.metrics, "GET")]
        return Starlette(lifespan=life, exception_handlers={404: self.lost, 405: self.lost},
                         routes=[Route(path, self.guarded(act), methods=[method])
                                 for path, act, method in routes])

    def guarded(self, act):
        """An endpoint behind the checks that all share, and what it refuses as JSON."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse

        async def endpoint(request):
            try:
                self.check(request)
                response = await act(request)
            except Refused as no:
                response = JSONResponse(no.body, no.status, no.headers)
            except ClientDisconnect:                 # in the middle of its own body
                response = JSONResponse({}, 499)
            except Exception as error:               # a fault of ours: say so, and go on serving
                no = Refused(500, f"{type(error).__name__}: {error}", kind="server_error")
                response = JSONResponse(no.body, 500)
            self.worker.metrics.add("responses_total", 1, path=request.scope["route"].path,
                                    status=response.status_code)
            return response

        return endpoint

    def check(self, request):
        """Whoever calls must know the name of this server, and its key if it has one.

        A page in a browser can be made to call any address, also this machine's own. The name in
        the Host header gives it away, and a type of body that it may not send without asking.
        """
        host = request.headers.get("host", "")
        if self.hosts is not None and re.sub(r":\d+$", "", host) not in self.hosts:
            raise Refused(421, f"this server does not answer to the name {host[:80]!r}")
        if self.key is not None and request.url.path != "/health":
            shown = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(shown, f"Bearer {self.key}".encode()):
                raise Refused(401, "wrong or no API key: send Authorization: Bearer KEY",
                              code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def lost(self, request, error):
        """No such path, or not with this method."""
        from starlette.responses import JSONResponse
        no = Refused(error.status_code, f"{request.method} {request.url.path[:80]} is not here; "
                     "see /v1/models, /v1/completions, /v1/chat/completions")
        return JSONResponse(no.body, no.status, error.headers)

    def card(self):
        """The model as /v1/models lists it."""
        return {"id": self.model.name, "object": "model", "created": self.began, "owned_by": "you"}

    async def models(self, request):
        from starlette.responses import JSONResponse
        return JSONResponse({"object": "list", "data": [self.card()]})

    async def one(self, request):
        from starlette.responses import JSONResponse
        if (name := request.path_params["name"]) != self.model.name:
            raise Refused(404, f"there is no model {name[:80]!r} here", "model", "model_not_found")
        return JSONResponse(self.card())

    async def health(self, request):
        from starlette.responses import JSONResponse
        well = not (self.worker.closing or self.worker.fault) and self.worker.thread.is_alive()
        return JSONResponse({"status": "ok" if well else self.worker.fault or "closing"},
                            200 if well else 503)

    async def metrics(self, request):
        from starlette.responses import PlainTextResponse
        return PlainTextResponse(self.worker.metrics.text(self.worker.gauges()),
                                 media_type="text/plain; version=0.0.4")

    async def completions(self, request):
        return await self.complete(request, chat=False)

    async def chat(self, request):
        return await self.complete(request, chat=True)

    async def body(self, request):
        """The parsed body. 415 for another type, 413 beyond MOST_BODY, 400 for what is no JSON."""
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refused(415, "send the body as Content-Type: application/json")
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > MOST_BODY:
                raise Refused(413, f"the body is larger than {MOST_BODY:,} bytes",
                              headers={"Connection": "close"})
        try:
            return json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON: {str(error)[:100]}") from None

    async def complete(self, request, chat):
        """Both endpoints: read what was asked, let it in, and answer."""
        from starlette.responses import JSONResponse, StreamingResponse
        asked = read(await self.body(request), self.model, self.worker.context, chat,
                     self.formats.pattern)
        if asked.pattern:
            await asyncio.to_thread(self.formats.constrain, asked)
        news, answer = delivery.let_in(self.worker, asked.request), Answer(self.model, asked)
        if not asked.stream:
            last = await delivery.last(self.worker, asked.request, news, request.receive)
            return JSONResponse(answer.whole(last))

        class Stream(StreamingResponse):
            async def __call__(stream, scope, receive, send):        # noqa: N805
                try:                                 # returns, or is cancelled, when they hang up
                    await super().__call__(scope, receive, send)
                finally:
                    self.worker.cancel(asked.request)

        return Stream(delivery.events(asked.request, news, answer), 200,
                      {"Cache-Control": "no-cache"}, "text/event-stream")
