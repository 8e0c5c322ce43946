"""Day 64 · Serve a model: python -m llm.generate.server MODEL

MODEL is a folder or a .gguf file as `llm/weights/export.py` and others write them, or smollm.
An event loop talks HTTP (server_app.py); one worker thread computes (worker.py). Without --host
only this machine can reach it. Needs `pip install -r requirements-serve.txt`.
SIGTERM or Ctrl-C: nobody is let in any more, answers that have begun are finished for up to 30
seconds. Left out: TLS, several models and processes.
"""

import argparse
import importlib.util
import os
import signal
import socket
import sys

from llm.generate.opened import open_model
from llm.generate.server_app import LOCAL, Service
from llm.generate.worker import Worker

GRACE = 30                     # seconds for answers that have begun


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llm.generate.server",
                                     description="An OpenAI-compatible server for one model.")
    parser.add_argument("model", help="a folder, a .gguf file, or smollm")
    parser.add_argument("--name", help="what clients call the model (its file's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8064, help="0 takes any free one (8064)")
    parser.add_argument("--api-key", default=os.environ.get("LLM_API_KEY"), metavar="KEY",
                        help="what clients must show; or set LLM_API_KEY, which ps does not show")
    parser.add_argument("--most", type=int, default=16, metavar="N", help="in a batch (16)")
    parser.add_argument("--waiting", type=int, default=64, metavar="N", help="in the queue (64)")
    parser.add_argument("--memory", type=int, default=256, metavar="MB",
                        help="for keys and values (256)")
    options = parser.parse_args(arguments)
    if options.most < 1 or options.waiting < 0 or options.memory < 1:
        parser.error("--most and --memory must be at least 1, --waiting at least 0")
    if not 0 <= options.port <= 65535:
        parser.error("--port must be 0 to 65535")
    return options


def missing():
    """The packages of requirements-serve.txt that are not here."""
    return [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]


def make(options):
    """Options of the command line -> a Service. OSError or ValueError with one line."""
    model = open_model(options.model)
    if options.name:
        model = model.named(options.name)
    worker = Worker(model, options.most, options.waiting, options.memory << 20)
    return Service(model, worker, options.api_key,
                   LOCAL if options.host in ("127.0.0.1", "::1", "localhost") else None)


def main(arguments=None):
    """Serve until SIGTERM or Ctrl-C. Exit status 2 and one line if it cannot begin."""
    options = parse(arguments)
    if absent := missing():
        return fail(f"the server needs {' and '.join(absent)}: "
                    "pip install -r requirements-serve.txt")
    import uvicorn
    try:
        service = make(options)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family)
    except (OSError, ValueError) as error:
        return fail(str(error))
    host, port = listener.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{service.model.name} at {where}/v1", file=sys.stderr, flush=True)
    if service.hosts is None and service.key is None:
        print("anyone who reaches this address can use it: set --api-key", file=sys.stderr)
    config = uvicorn.Config(service.app(), log_level="warning", access_log=False,
                            timeout_graceful_shutdown=GRACE, server_header=False)
    for number in (signal.SIGINT, signal.SIGTERM):   # uvicorn ends well, then raises them once more
        signal.signal(number, lambda *_: None)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def fail(line):
    """One line on stderr -> exit status 2."""
    print(f"server: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
