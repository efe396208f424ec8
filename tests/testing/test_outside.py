"""Input and output under control: between the threads of a test, and with other processes."""

from __future__ import annotations

import asyncio
import http.server
import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from plain import explore, replay
from together import together

from scheduler import outside


def proven(main: Callable[[], object], **options: Any) -> int:
    """How many executions show that it never fails."""
    found = explore(main, strategy="dpor", **options)
    assert (found.failure, found.exhausted) == (None, True)
    return found.executions  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def nothing_comes_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little patience will do; with child processes there is more in any case."""
    monkeypatch.setattr(outside, "_LONG", 0.001)


def test_what_one_thread_sends_another_receives() -> None:
    def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            together(lambda: here.sendall(b"hello"), lambda: received.append(there.recv(10)))
        assert received.pop() == b"hello"

    received: list[bytes] = []
    assert proven(main) == 2


def test_who_sends_first_is_explored() -> None:
    def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            together(lambda: here.send(b"a"), lambda: here.send(b"b"))
            seen.add(there.recv(2))

    seen: set[bytes] = set()
    assert proven(main) > 1
    assert seen == {b"ab", b"ba"}


def test_a_pipe() -> None:
    def main() -> None:
        out, into = os.pipe()
        try:
            together(lambda: os.write(into, b"one"), lambda: received.append(os.read(out, 10)))
        finally:
            os.close(out)
            os.close(into)
        assert received.pop() == b"one"

    received: list[bytes] = []
    proven(main)


def test_a_server_and_its_client() -> None:
    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                connection, _address = listener.accept()
                with connection:
                    connection.sendall(connection.recv(100).upper())

            def ask() -> None:
                with socket.create_connection(listener.getsockname()) as connection:
                    connection.sendall(b"hello")
                    answers.append(connection.recv(100))

            together(serve, ask)
        assert answers.pop() == b"HELLO"

    answers: list[bytes] = []
    assert explore(main, strategy="random", max_executions=20).failure is None


def test_timeouts_are_virtual() -> None:
    def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            here.settimeout(3600)
            begin = time.monotonic()
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                here.recv(1)
            assert time.monotonic() - begin == 3600
            assert select.select([here], [], [], 60) == ([], [], [])
            assert time.monotonic() - begin == 3660

    proven(main)


def test_a_timeout_that_comes_early_is_found_out() -> None:
    def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            here.settimeout(1)
            together(lambda: there.send(b"x"), lambda: here.recv(1))

    assert explore(main).failure is None
    found = explore(main, timeouts="early", strategy="dpor")
    assert found.failure is not None
    assert isinstance(found.failure.exception, TimeoutError)
    with pytest.raises(TimeoutError):
        replay(main, found.failure.trace, timeouts="early")


def test_two_that_both_receive_first_wait_for_ever() -> None:
    def main() -> None:
        here, there = socket.socketpair()

        def talk(end: socket.socket) -> None:
            assert end.recv(1) == b"x"
            end.send(b"x")

        with here, there:
            together(lambda: talk(here), lambda: talk(there))

    found = explore(main, max_executions=10)
    assert found.failure is not None
    assert found.failure.kind == "deadlock"
    assert "waits to receive" in found.failure.report()


def test_closing_wakes_who_waits_with_an_error() -> None:
    def main() -> None:
        here, there = socket.socketpair()

        def receive() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                here.recv(1)

        with there:
            together(receive, here.close)

    proven(main)


def test_what_is_sent_puts_memory_in_order() -> None:
    def main() -> None:
        here, there = socket.socketpair()
        box: list[int] = []

        def give() -> None:
            box.append(1)
            here.send(b"x")

        def take() -> None:
            there.recv(1)
            assert box.pop() == 1

        with here, there:
            together(give, take)

    found = explore(main, memory=True, strategy="dpor")
    assert (found.failure, found.races, found.exhausted) == (None, [], True)


def test_an_event_loop_in_a_thread() -> None:
    def main() -> None:
        async def wait() -> str:
            await asyncio.sleep(3600)
            return await asyncio.to_thread(lambda: "done")

        results: list[str] = []
        together(lambda: results.append(asyncio.run(wait())))
        assert results == ["done"]

    assert explore(main, max_executions=20).failure is None


def test_the_standard_http_server() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: Any) -> None:
            pass

    def main() -> None:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as response:
                assert response.read() == b"hello"
            server.shutdown()
            thread.join()

    assert explore(main, strategy="random", max_executions=10).failure is None


def test_a_child_process_is_waited_for_in_real_time() -> None:
    command = [sys.executable, "-c", "print('done')"]

    def main() -> None:
        answers: list[bytes] = []
        together(lambda: answers.append(subprocess.run(command, capture_output=True, check=True).stdout))
        assert answers == [b"done\n"]

    found = explore(main, strategy="random", max_executions=2)
    assert found.failure is None
    assert found.coverage.endswith("; what came from other processes came when it came")


def test_a_child_process_that_is_looked_at_now_and_then() -> None:
    def main() -> None:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1)"]) as child:
            while child.poll() is None:
                time.sleep(0.1)
        assert child.returncode == 0

    assert explore(main, strategy="random", max_executions=2, max_steps=200).failure is None


def test_nobody_claims_to_have_seen_all_that_a_child_process_may_do() -> None:
    def main() -> None:
        subprocess.run(["true"], check=True)

    found = explore(main, strategy="dpor")
    assert (found.failure, found.exhausted) == (None, False)


def test_patience_is_long_only_with_child_processes_that_the_test_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        patience.clear()
        here, there = socket.socketpair()
        with here, there:
            here.settimeout(3600)
            with pytest.raises(TimeoutError):
                here.recv(1)
            with sleeper():
                with pytest.raises(TimeoutError):
                    here.recv(1)

    def sleeper() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE)

    def nothing_comes(wanted: list[tuple[int, int]], seconds: float) -> bool:
        patience.append(seconds)
        return len(patience) > 2 and any_ready(wanted, seconds)  # The child ends at last.

    patience: list[float] = []
    any_ready = outside.any_ready
    monkeypatch.setattr(outside, "any_ready", nothing_comes)
    with sleeper():
        assert explore(main, max_executions=1).failure is None
    assert patience[:2] == [outside._LONG, outside._WITH_CHILDREN]
