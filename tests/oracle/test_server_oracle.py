"""Day 64 · The server, called by OpenAI's own client, by 64 at once, by clients that hang up."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from llm.generate.opened import open_model
from llm.generate.plain import Plain
from llm.generate.server_app import LOCAL, MOST_BODY, Service
from llm.generate.template import CHATML
from llm.generate.worker import Worker
from llm.weights.export import export_hf, import_hf, weights_of
from tests.test_day64 import CHATTY, TEXT, make

WHY = "pip install -r requirements-dev.txt brings the server and OpenAI's client"
WHOLE = {str(i): -100 for i in range(128, 256)}        # no bytes that only begin a character
HELLO = [{"role": "user", "content": "The cat?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "cat"
    arch, weights, tokenizer = make("llama", np.random.default_rng(0), CHATTY, T=256)
    weights["embed"][128:256] = 0                     # whole characters mostly
    export_hf(path, arch, weights, tokenizer, CHATML)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder)


@contextlib.contextmanager
def serving(model, key=None, **options):
    """(port, service) of a real server on a real socket, in a thread."""
    uvicorn = pytest.importorskip("uvicorn", reason=WHY)
    pytest.importorskip("starlette", reason=WHY)
    service = Service(model, Worker(model, **options), key, LOCAL)
    config = uvicorn.Config(service.app(), port=0, log_level="warning", access_log=False,
                            timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1], service
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive() and not service.worker.thread.is_alive()


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as both:
        yield both


def openai(port, **options):
    peer = pytest.importorskip("openai", reason=WHY)
    return peer.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", **{"api_key": "none", **options})


@pytest.fixture
def client(server):
    return openai(server[0])


def call(port, method, path, body=None, headers=(), kind="application/json"):
    """(status, headers, parsed or plain body) by the standard library."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": kind, **dict(headers)})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    plain = not response.headers["content-type"].startswith("application/json")
    return response.status, response.headers, text if plain else json.loads(text)


def ask(port, **body):
    return call(port, "POST", "/v1/completions", {"model": "cat", "prompt": "The", **body})


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# ---------------------------------------------------------------- OpenAI's client

def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["cat"]
    assert client.models.retrieve("cat").owned_by == "you"


def test_a_completion_is_the_models_own(client, model):
    said = client.completions.create(model="cat", prompt="The cat", max_tokens=20, temperature=0)
    ids = model.encode("The cat")
    decoder, z = model.engine(threads=1), None
    z = decoder.prefill(ids)
    chosen = []
    while len(chosen) < 20 and (not chosen or chosen[-1] not in model.stops):
        chosen.append(int(z[:model.tokenizer.vocab_size].argmax()))
        z = decoder.step(chosen[-1])
    text = model.tokenizer.decode([i for i in chosen if i not in model.stops])
    assert said.choices[0].text == text and said.object == "text_completion"
    assert said.usage.prompt_tokens == len(ids)
    assert said.usage.completion_tokens == len(chosen)
    assert said.choices[0].finish_reason == ("length" if len(chosen) == 20 else "stop")


def test_a_stream_says_what_the_whole_answer_says(client):
    for chat in (False, True):
        make = client.chat.completions.create if chat else client.completions.create
        options = {"messages": HELLO} if chat else {"prompt": "The dog"}
        options |= {"model": "cat", "max_tokens": 30, "seed": 5, "temperature": 0.9}
        whole = make(**options)
        parts = list(make(**options, stream=True, stream_options={"include_usage": True}))
        assert parts[-1].usage == whole.usage and parts[-1].choices == []
        assert len({p.id for p in parts}) == 1 and parts[0].id != whole.id
        said = [p.choices[0] for p in parts[:-1]]
        if chat:
            assert said[0].delta.role == "assistant"
            text = "".join(c.delta.content or "" for c in said)
            assert text == whole.choices[0].message.content
        else:
            assert "".join(c.text for c in said) == whole.choices[0].text
        reasons = [c.finish_reason for c in said]
        assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) == {None}
        assert len(said) > 5                                # it did come in pieces


def test_seeds_repeat_and_differ(client):
    say = lambda seed: client.completions.create(
        model="cat", prompt="The", max_tokens=24, seed=seed).choices[0].text
    assert say(1) == say(1) and len({say(s) for s in (1, 2, 3, None)}) == 4


def test_log_probabilities_are_the_models(client, model, folder):
    said = client.completions.create(model="cat", prompt="The", max_tokens=12, seed=3,
                                     logprobs=3, logit_bias=WHOLE).choices[0]
    found = said.logprobs
    assert "".join(found.tokens) == said.text and len(found.tokens) == len(found.token_logprobs)
    assert found.text_offset == [len("".join(found.tokens[:j])) for j in range(len(found.tokens))]
    chat = client.chat.completions.create(model="cat", messages=HELLO, max_tokens=12, seed=3,
                                          logprobs=True, top_logprobs=4, temperature=0,
                                          logit_bias=WHOLE)
    tokens = chat.choices[0].logprobs.content
    assert bytes(b for t in tokens for b in t.bytes).decode() == chat.choices[0].message.content
    assert all(t.top_logprobs[0].logprob == t.logprob and len(t.top_logprobs) == 4 for t in tokens)
    plain = Plain(model.arch, weights_of(import_hf(folder)[1], model.arch))
    z = plain.read(model.encode("The"))[-1].astype(float)
    wanted = z[model.tokenizer.encode(found.tokens[0])[0]] - np.log(np.exp(z).sum())
    assert abs(found.token_logprobs[0] - wanted) < 1e-3
    stream = client.completions.create(model="cat", prompt="The", max_tokens=12, seed=3,
                                       logprobs=3, stream=True, logit_bias=WHOLE)
    again = [c.choices[0].logprobs for c in stream if c.choices[0].logprobs]
    assert [t for part in again for t in part.tokens] == found.tokens


def test_stop_strings_end_the_text_and_are_not_in_it(client):
    whole = client.completions.create(model="cat", prompt="The", max_tokens=30, seed=8).choices[0]
    stop = whole.text[7:10]
    for stream in (False, True):
        said = client.completions.create(model="cat", prompt="The", max_tokens=30, seed=8,
                                         stop=["never seen", stop], logprobs=0, stream=stream)
        parts = [c.choices[0] for c in said] if stream else said.choices
        text = "".join(p.text for p in parts)
        assert text == whole.text[:whole.text.index(stop)] and parts[-1].finish_reason == "stop"
        tokens = [t for p in parts if p.logprobs for t in p.logprobs.tokens]
        assert "".join(tokens).startswith(text)


def test_a_bias_forbids_and_forces(client, model):
    i = int(model.tokenizer.encode("x")[0])
    say = lambda bias: client.completions.create(model="cat", prompt="The", max_tokens=8, seed=0,
                                                 logit_bias={str(i): bias}).choices[0].text
    assert say(100) == "x" * 8 and "x" not in say(-100)


def test_json_mode_writes_json(client):
    for seed in range(5):
        said = client.chat.completions.create(
            model="cat", messages=HELLO, max_tokens=60, seed=seed, temperature=1.5,
            response_format={"type": "json_object"}).choices[0]
        assert isinstance(json.loads(said.message.content), dict) and said.finish_reason == "stop"
    schema = {"type": "object", "required": ["name", "legs", "kind"], "properties": {
        "name": {"type": "string"}, "legs": {"type": "array", "items": {"type": "integer"}},
        "kind": {"enum": ["cat", "dog"]}}}
    for seed in range(5):
        said = client.chat.completions.create(
            model="cat", messages=HELLO, max_tokens=80, seed=seed,
            response_format={"type": "json_schema", "json_schema": {
                "name": "animal", "schema": schema}}).choices[0].message.content
        found = json.loads(said)
        assert list(found) == ["name", "legs", "kind"] and found["kind"] in ("cat", "dog")
        assert all(type(leg) is int for leg in found["legs"])


def test_errors_reach_the_client_as_its_own(client):
    peer = pytest.importorskip("openai", reason=WHY)
    with pytest.raises(peer.NotFoundError, match="no model 'gpt-9' here") as caught:
        client.completions.create(model="gpt-9", prompt="x")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(peer.BadRequestError, match="context is 256 tokens") as caught:
        client.completions.create(model="cat", prompt="The " * 300)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(peer.BadRequestError, match="temperature must be a number from 0 to 2"):
        client.completions.create(model="cat", prompt="x", temperature=3)


# ---------------------------------------------------------------- many at once

def test_64_at_once_and_none_is_lost_or_changed(model):
    rng = np.random.default_rng(0)
    jobs = [{"prompt": TEXT[:int(rng.integers(1, 60))], "max_tokens": int(rng.integers(1, 40)),
             "seed": j, "stream": j % 2 == 0} for j in range(64)]
    with serving(model, most=8, waiting=64, memory=1 << 20) as (port, service):
        client = openai(port, max_retries=0)

        def say(job):
            said = client.completions.create(model="cat", **job)
            parts = list(said) if job["stream"] else [said]
            reason = parts[-1].choices[0].finish_reason
            return "".join(p.choices[0].text for p in parts), reason

        alone = [say(job) for job in jobs[:16]]
        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(say, jobs))
        assert [len(f) for f in found] == [2] * 64
        assert {reason for _, reason in found} <= {"length", "stop"}
        assert found[:16] == alone                        # company changes nothing
        status, _, text = call(port, "GET", "/metrics")
        assert status == 200 and service.worker.inside == set()
        assert len(service.worker.pool.free) == service.worker.pool.blocks
        counts = [float(line.split()[-1]) for line in text.splitlines()
                  if line.startswith("llm_requests_total")]
        assert sum(counts) == 80


def test_a_full_server_says_when_to_come_again_and_who_does_is_served(model):
    with serving(model, most=1, waiting=1) as (port, service):
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda j: ask(port, max_tokens=100, seed=j, logit_bias={
                str(i): -100 for i in model.stops}), range(12)))
        statuses = sorted(status for status, *_ in answers)
        assert statuses[0] == 200 and statuses[-1] == 429 and set(statuses) == {200, 429}
        for status, headers, body in answers:
            if status == 429:
                assert int(headers["Retry-After"]) >= 1
                assert body["error"]["code"] == "queue_full"
                assert "requests are here already" in body["error"]["message"]
        assert service.worker.inside == set()
        patient = openai(port, max_retries=20)
        with ThreadPoolExecutor(6) as pool:
            texts = list(pool.map(lambda j: patient.completions.create(
                model="cat", prompt="The", max_tokens=5, seed=j).choices[0].text, range(6)))
        assert len(texts) == 6


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_blocks(model, stream):
    with serving(model, most=1, waiting=8) as (port, service):
        worker = service.worker
        step, slow = worker.scheduler.step, threading.Event()

        def slowly():
            slow.wait(0.02)
            return step()

        worker.scheduler.step = slowly
        connection = http.client.HTTPConnection("127.0.0.1", port)
        body = {"model": "cat", "prompt": "The", "max_tokens": 200, "stream": stream,
                "logit_bias": {str(i): -100 for i in model.stops}}
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        if stream:
            assert connection.getresponse().read(20)
        wait_for(lambda: worker.scheduler.running)
        assert len(worker.pool.free) < worker.pool.blocks
        connection.sock.close() if not stream else connection.close()
        wait_for(lambda: not worker.inside)
        assert len(worker.pool.free) == worker.pool.blocks
        slow.set()
        assert worker.metrics.counters["requests_total", (("reason", "cancelled"),)] == 1
        assert ask(port, max_tokens=3)[0] == 200          # and the next one is served


# ---------------------------------------------------------------- what is refused

def test_bodies_that_are_too_large_or_no_json_are_refused(server):
    port = server[0]
    post = lambda body, **more: call(port, "POST", "/v1/completions", body, **more)
    assert post(b"{" + b" " * MOST_BODY)[0] == 413
    status, _, body = post(b"{'model'")
    assert status == 400 and "not JSON" in body["error"]["message"]
    assert post(b"[" * 100_000)[0] == 400
    assert post(b"\xff\xfe{")[0] == 400
    assert post({"model": "cat"}, kind="text/plain")[0] == 415
    assert call(port, "GET", "/v1/completions")[0] == 405
    status, _, body = call(port, "GET", "/v2")
    assert status == 404 and body["error"]["type"] == "invalid_request_error"
    assert call(port, "GET", "/v1/models/dog")[0] == 404


def test_other_names_of_this_machine_are_refused(server):
    assert call(server[0], "GET", "/health", headers={"Host": "evil.example"})[0] == 421
    for good in ("localhost", "127.0.0.1:8064", "[::1]:1"):
        assert call(server[0], "GET", "/health", headers={"Host": good})[0] == 200


def test_a_key_is_asked_for(model):
    peer = pytest.importorskip("openai", reason=WHY)
    with serving(model, key="s3cret") as (port, _):
        with pytest.raises(peer.AuthenticationError, match="no API key"):
            openai(port).models.list()
        assert [m.id for m in openai(port, api_key="s3cret").models.list()] == ["cat"]
        assert call(port, "GET", "/metrics")[0] == 401
        assert call(port, "GET", "/health")[0] == 200
        assert call(port, "GET", "/metrics", headers={"Authorization": "Bearer s3cre"})[0] == 401


def test_a_fault_of_the_scheduler_is_told_and_makes_the_server_unwell(model):
    with serving(model) as (port, service):
        def broken():
            raise RuntimeError("the kernel is broken")

        service.worker.scheduler.step = broken
        status, _, body = ask(port)
        assert status == 500 and "the kernel is broken" in body["error"]["message"]
        assert body["error"]["type"] == "server_error"
        assert call(port, "GET", "/health")[0] == 503
        assert ask(port)[0] == 503


def test_metrics_are_what_prometheus_reads(server):
    ask(server[0], max_tokens=2)
    text = call(server[0], "GET", "/metrics")[2]
    names = {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert {"llm_requests_total", "llm_responses_total", "llm_generated_tokens_total",
            "llm_blocks_free", "llm_first_token_seconds_bucket"} <= names
    assert 'llm_responses_total{path="/v1/completions",status="200"}' in text


# ---------------------------------------------------------------- the program

def start(folder, *options):
    env = {**os.environ, "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    program = subprocess.Popen([sys.executable, "-m", "llm.generate.server", str(folder), *options],
                               stderr=subprocess.PIPE, text=True, env=env)
    return program, program.stderr.readline()


def test_the_program_serves_here_only_and_ends_when_asked_without_cutting_anybody_off(folder):
    pytest.importorskip("uvicorn", reason=WHY)
    program, line = start(folder, "--port", "0", "--name", "kitty")
    try:
        assert line.startswith("kitty at http://127.0.0.1:"), line + program.stderr.read()
        port = int(line.rsplit(":", 1)[1].split("/")[0])
        stream = openai(port).completions.create(model="kitty", prompt="The", max_tokens=200,
                                                 seed=0, stream=True)
        parts = [next(stream)]
        program.send_signal(signal.SIGTERM)
        parts += stream
        assert parts[-1].choices[0].finish_reason in ("length", "stop")
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.stderr.close()


def test_the_program_says_what_is_wrong(folder, tmp_path):
    pytest.importorskip("uvicorn", reason=WHY)
    for options, said in (([tmp_path / "absent"], "nothing of this name"),
                          ([folder, "--memory", "1", "--host", "no.such.host"], "")):
        done = subprocess.run([sys.executable, "-m", "llm.generate.server", *map(str, options)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stderr.startswith("server: ")
        assert said in done.stderr and done.stderr.count("\n") == 1
