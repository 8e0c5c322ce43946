"""Day 64 · Delivery: from the worker's thread to whoever asked, and what happens if he hangs up.

The worker tells its News in its own thread; `call_soon_threadsafe` is the one way from there into
an event loop. A client that goes away is noticed by the loop, and its request is cancelled: a
cancellation is a message like any other, and one for a request that is done changes nothing.
Left out: clients that listen too slowly; what waits for them is no longer than their answer.
Source: WHATWG, HTML, "Server-sent events", for the form of a stream.
"""

import asyncio
import contextlib

from llm.generate.answered import event
from llm.generate.refused import Refused
from llm.generate.worker import Closed, Full


def let_in(worker, served):
    """Hand a Served to the worker -> the asyncio.Queue of its News. Refused: 429 full, 503 closed.

    Called in an event loop, which is where the News will be."""
    loop, news = asyncio.get_running_loop(), asyncio.Queue()

    def tell(message):
        with contextlib.suppress(RuntimeError):                  # the loop has ended already
            loop.call_soon_threadsafe(news.put_nowait, message)

    served.tell = tell
    try:
        worker.submit(served)
    except Full as full:
        raise Refused(429, f"the server is full: {full}", code="queue_full",
                      kind="rate_limit_error", headers={"Retry-After": str(full.seconds)}) from None
    except Closed as closed:
        raise Refused(503, str(closed), kind="server_error") from None
    return news


async def messages(served, news):
    """The News of a request, up to its last. Refused: 500 after a fault, 503 if cancelled."""
    while True:
        message = await news.get()
        if message.reason in ("error", "cancelled"):
            raise Refused(500 if message.reason == "error" else 503,
                          served.error or "the server is shutting down", kind="server_error")
        yield message
        if message.reason:
            return


async def events(served, news, answer):
    """The text of a stream of server-sent events; after a fault the last one tells it."""
    try:
        if answer.chat:
            yield event(answer.chunk(role="assistant"))
        async for message in messages(served, news):
            for piece in answer.pieces(message):
                yield event(piece)
        yield event("[DONE]")
    except Refused as no:
        yield event(no.body)


async def last(worker, served, news, receive):
    """The last of the News. If the client goes away meanwhile, nobody needs it: Refused, 499.

    receive: ASGI's, whose next message after the body says that the client is gone."""
    async def wait():
        return [message async for message in messages(served, news)][-1]

    async def gone():
        while (await receive())["type"] != "http.disconnect":
            pass

    waiting, leaving = asyncio.ensure_future(wait()), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Refused(499, "the client has gone")
        return waiting.result()
    finally:
        for task in (waiting, leaving):
            task.cancel()
        worker.cancel(served)
