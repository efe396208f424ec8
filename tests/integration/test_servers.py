"""The gunicorn worker and the server for development, as their users start them."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import environment, free_port, require, running

COUNT = 50

# Nobody who asks for /together is answered before all have asked; so each must have a thread of its own.
APP = f"""
import threading

everybody = threading.Barrier({COUNT})


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/together":
        everybody.wait()
    if path == "/fail":
        raise KeyError(path)
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or path.encode()
    kind = getattr(threading.current_thread(), "kind", "none")
    start_response("200 OK", [("Content-Length", str(len(body))), ("Kind", kind)])
    return [body]
"""


@pytest.fixture(params=["gunicorn", "development"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    (tmp_path / "an_app.py").write_text(APP, encoding="utf-8")
    port = free_port()
    if request.param == "gunicorn":
        require("gunicorn")
        command = ["-m", "gunicorn", "-k", "greenthreads.gunicorn.Worker", "-b", f"127.0.0.1:{port}", "an_app:app"]
    else:
        command = ["-m", "greenthreads.wsgi", "an_app:app", "--port", str(port)]
    with running([sys.executable, *command], port, tmp_path, cwd=tmp_path, env=environment()):
        yield port


def ask(port: int, path: str, body: bytes | None = None) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers["Kind"]
    connection.close()
    return found


def test_requests_are_served_at_once(port: int) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ask(port, "/together"))) for _ in range(COUNT)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [(200, b"/together", "user")] * COUNT


def test_a_body_and_an_error(port: int) -> None:
    body = os.urandom(500_000)
    assert ask(port, "/", body) == (200, body, "user")
    assert ask(port, "/fail")[0] == 500
    assert ask(port, "/again") == (200, b"/again", "user")


def test_idle_clients_stop_nobody(port: int) -> None:
    idle = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(COUNT)]
    for each in idle:
        each.connect()
    assert ask(port, "/")[0] == 200
    for each in idle:
        each.close()


def test_a_connection_is_kept_alive_by_the_worker(tmp_path: Path) -> None:
    require("gunicorn")
    (tmp_path / "an_app.py").write_text(APP, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "greenthreads.gunicorn.Worker", "--keep-alive", "60"]
    with running([*command, "-b", f"127.0.0.1:{port}", "an_app:app"], port, tmp_path, cwd=tmp_path, env=environment()):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        sockets = set()
        for number in range(5):
            connection.request("GET", f"/{number}")
            sockets.add(connection.sock)
            assert connection.getresponse().read() == f"/{number}".encode()
        assert len(sockets) == 1
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_ends_when_it_is_told_to(tmp_path: Path, number: int, until: Callable[..., None]) -> None:
    require("gunicorn")
    (tmp_path / "an_app.py").write_text(APP, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "greenthreads.gunicorn.Worker", "-b", f"127.0.0.1:{port}"]
    with open(tmp_path / "out", "wb") as out:
        server = subprocess.Popen([*command, "an_app:app"], cwd=tmp_path, env=environment(), stdout=out, stderr=out)
    end = time.monotonic() + 60
    while True:
        try:
            assert ask(port, "/")[0] == 200
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
    server.send_signal(number)
    assert server.wait(60) == 0
    assert "Traceback" not in (tmp_path / "out").read_text()
