"""Day 64 · A crowd before the worker: clients who ask, listen to the end, and ask again."""

import queue
import threading
import time
from dataclasses import dataclass

import numpy as np

from llm.generate.served import Served
from llm.generate.worker import Worker


@dataclass(frozen=True)
class Seen:
    """What a crowd saw, all together."""

    clients: int
    rate: float           # tokens a second
    first: list           # seconds to the first token, the median and the 95th percentile
    response: float       # mean seconds from asking to the end
    asked: float          # requests a second
    inside: float         # requests inside, on the average over time
    lost: int             # requests that were let in and never ended
    changed: int          # answers that differ from those of another crowd


def answer(worker, request):
    """Submit and listen -> (seconds to the first token, to the end)."""
    told, start, first = queue.SimpleQueue(), time.perf_counter(), None
    request.tell = told.put
    worker.submit(request)
    while True:
        news = told.get(timeout=60)
        first = first or time.perf_counter() - start
        if news.reason:
            if news.reason != "length":
                raise RuntimeError(f"a request ended by {news.reason!r}: {request.error}")
            return first, time.perf_counter() - start


def watch(model, prompts, clients, rounds, n, most):
    """`clients` threads, each with `rounds` requests one after another, of n tokens each ->
    (Seen, {(client, round): ids})."""
    worker = Worker(model, most=most, waiting=clients)
    worker.start()
    found, texts, lock = [], {}, threading.Lock()
    answer(worker, Served(prompts[0], 2))                     # compiles

    def one(client):
        for j in range(rounds):
            seed = client * rounds + j
            request = Served(prompts[seed % len(prompts)], n, seed, {"temperature": 0.8})
            times = answer(worker, request)
            with lock:
                found.append(times)
                texts[seed] = request.ids

    threads = [threading.Thread(target=one, args=(client,)) for client in range(clients)]
    inside, start = [], time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        inside.append(len(worker.inside))
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    worker.close()
    first, response = np.array(found).T
    seen = Seen(clients, sum(map(len, texts.values())) / seconds,
                [float(np.percentile(first, q)) for q in (50, 95)], float(response.mean()),
                len(found) / seconds, float(np.mean(inside)), clients * rounds - len(found), 0)
    return seen, texts


def changed(texts, others):
    """How many answers of one crowd differ from those to the same requests in another."""
    return sum(texts[seed] != others[seed] for seed in texts.keys() & others.keys())
