"""Frameworks that start threads of their own, unmodified: what they start are user threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., str]

# Asks `port` from many threads at once; each answer comes only after all have asked.
ASK = """
        import threading, urllib.request

        COUNT = 20
        everybody = threading.Barrier(COUNT)

        def ask(port):
            answers.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/").read())

        def ask_together(port):
            threads = [threading.Thread(target=ask, args=(port,)) for _ in range(COUNT)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(len(answers), {*answers})

        answers = []
"""


def test_flask(run_unmodified: Run) -> None:
    program = (
        ASK
        + """
        import logging
        from flask import Flask, request
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").disabled = True  # It writes a line on each request.
        app = Flask("app")

        @app.get("/")
        def index():
            everybody.wait()
            return threading.current_thread().kind + request.path

        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ask_together(server.server_port)
        server.shutdown()
        thread.join()
    """
    )
    assert run_unmodified(program, needs=("flask",)) == "20 {b'user/'}\n"


def test_waitress(run_unmodified: Run) -> None:
    program = (
        ASK
        + """
        from waitress.server import create_server

        def app(environ, start_response):
            everybody.wait()
            start_response("200 OK", [])
            return [threading.current_thread().kind.encode()]

        server = create_server(app, host="127.0.0.1", port=0, threads=COUNT)
        threading.Thread(target=server.run, daemon=True).start()
        ask_together(server.effective_port)
        server.close()
    """
    )
    assert run_unmodified(program, needs=("waitress",)) == "20 {b'user'}\n"


def test_websockets(run_unmodified: Run) -> None:
    program = """
        import threading
        from websockets.sync.client import connect
        from websockets.sync.server import serve

        COUNT = 20
        everybody = threading.Barrier(COUNT)

        def echo(websocket):
            for message in websocket:
                everybody.wait()
                websocket.send(message.upper())

        def ask(port):
            with connect(f"ws://127.0.0.1:{port}") as websocket:
                for message in "abc":
                    websocket.send(message)
                    answers.append(websocket.recv())

        answers = []
        with serve(echo, "127.0.0.1", 0) as server:
            serving = threading.Thread(target=server.serve_forever)
            serving.start()
            port = server.socket.getsockname()[1]
            threads = [threading.Thread(target=ask, args=(port,)) for _ in range(COUNT)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            server.shutdown()
            serving.join()
        print("".join(sorted(answers)) == "A" * COUNT + "B" * COUNT + "C" * COUNT)
    """
    assert run_unmodified(program, needs=("websockets",)) == "True\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_calls_functions_in_user_threads(run_unmodified: Run, backend: str) -> None:
    program = """
        import sys, threading
        import anyio, anyio.from_thread, anyio.to_thread

        COUNT = 20
        everybody = threading.Barrier(COUNT)

        def work(n):
            everybody.wait()
            anyio.from_thread.run(anyio.sleep, 0)
            found.append((n, threading.current_thread().kind))

        async def main():
            async with anyio.create_task_group() as group:
                for n in range(COUNT):
                    group.start_soon(anyio.to_thread.run_sync, work, n)

        found = []
        anyio.run(main, backend=sys.argv[1])
        print(sorted(found) == [(n, "user") for n in range(COUNT)])
    """
    assert run_unmodified(program, backend, needs=("anyio", "trio")) == "True\n"
