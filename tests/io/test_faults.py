"""What goes wrong in networks and processes: each with the outcome that a user would expect, and nobody else stopped.

Elsewhere: a reset, a name server that hangs, a closed descriptor (test_socket), a peer that stops in the TLS handshake
(test_ssl), a child that ignores SIGTERM (test_processes).
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenthreads import Event, Thread, current_thread, run_scheduler, sleep, socket, yield_now


class Ticker:
    """A thread that shows that others run: it counts its own turns."""

    def __enter__(self) -> Ticker:
        self.count = 0
        self.done = False
        self.thread = Thread(target=self.run)
        self.thread.start()
        return self

    def run(self) -> None:
        while not self.done:
            self.count += 1
            sleep(0.0005)

    def __exit__(self, *args: object) -> None:
        self.done = True
        self.thread.join()


def test_a_half_open_connection() -> None:
    """The other side is there and never says anything: reads end when their time is up; with keepalives set or not."""

    def main() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            connection, _ = server.accept()
            with client, connection, Ticker() as ticker:
                connection.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                # It is still good.
                client.sendall(b"x")
                assert connection.recv(1) == b"x"
                return ticker.count

    assert run_scheduler(main) > 1


def test_one_direction_closed() -> None:
    """The other side has said that it is done, and still listens."""

    def main() -> list[bytes]:
        a, b = socket.socketpair()
        with a, b:
            b.shutdown(socket.SHUT_WR)
            found = [a.recv(10)]
            a.sendall(b"still there?")
            found.append(b.recv(100))
            return found

    assert run_scheduler(main) == [b"", b"still there?"]


def test_a_full_send_buffer_and_a_slow_reader() -> None:
    """The sender waits for the reader, byte by byte if need be; nothing is lost, and others run."""
    size = 400_000

    def main() -> tuple[bool, bool]:
        a, b = socket.socketpair()
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        data = os.urandom(size)
        received = bytearray()

        def read_slowly() -> None:
            while len(received) < size:
                received.extend(b.recv(10_000))
                sleep(0.0001)

        with a, b, Ticker() as ticker:
            reader = Thread(target=read_slowly)
            reader.start()
            a.sendall(data)
            reader.join()
            return bytes(received) == data, ticker.count > 1

    assert run_scheduler(main) == (True, True)


def test_the_other_side_goes_while_one_sends(until: Any, waits: Any) -> None:
    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            connection, _ = server.accept()

            def go() -> None:
                until(lambda: waits(sender))
                client.close()

            sender = current_thread()
            thread = Thread(target=go)
            thread.start()
            with connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(bytes(50_000_000))
            thread.join()

    run_scheduler(main)


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[int | None], None]]:
    """Leave the process with so many more descriptors than it has now; None for as many as ever."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(more: int | None) -> None:
        if more is None:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            return
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_descriptors_left_to_accept(few_descriptors: Callable[[int | None], None]) -> None:
    """accept() says so; who is connected is served on, and when there is room again so are those who wait."""
    record: list[str] = []

    def main() -> None:
        full = Event()
        with socket.create_server(("127.0.0.1", 0), backlog=50) as server:

            def echo(connection: Any) -> None:
                with connection:
                    while data := connection.recv(100):
                        connection.sendall(data)

            def accept() -> None:
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError as error:
                        if error.errno != errno.EMFILE:
                            return
                        full.set()
                        continue  # At once: a server that does not know better.
                    Thread(target=echo, args=(connection,)).start()

            acceptor = Thread(target=accept)
            acceptor.start()
            yield_now()
            first = socket.create_connection(server.getsockname())
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            # What the clients need, and no more.
            clients = [socket.socket() for _ in range(5)]
            few_descriptors(1)
            for each in clients:
                each.connect(server.getsockname())
            full.wait()
            record.append("full")
            first.sendall(b"2")
            assert first.recv(1) == b"2"
            record.append("the first is served on")
            few_descriptors(None)
            for each in clients:
                each.sendall(b"x")
                assert each.recv(1) == b"x"
                each.close()
            record.append("all are served")
            first.close()
            server.close()
            acceptor.join()

    run_scheduler(main)
    assert record == ["full", "the first is served on", "all are served"]


# Holds connections to the port, says so, and waits for the end of its input.
HOLDER = """
import resource, socket, sys
port, count = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_idle_connections_cost_nobody_anything(count: int, until: Any) -> None:
    """All of them are parked, the scheduler sleeps, and who comes is served at once."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    if count + 1000 > before[1]:
        pytest.skip(f"no more than {before[1]} descriptors here")

    def main() -> tuple[int, float]:
        idle = 0
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:

            def serve(connection: Any) -> None:
                nonlocal idle
                idle += 1
                with connection:
                    while data := connection.recv(100):
                        connection.sendall(data)
                idle -= 1

            def accept() -> None:
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        return
                    Thread(target=serve, args=(connection,)).start()

            acceptor = Thread(target=accept)
            acceptor.start()
            command = [sys.executable, "-c", HOLDER, str(server.getsockname()[1]), str(count)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
                until(lambda: idle >= count)
                cpu = resource.getrusage(resource.RUSAGE_SELF)
                sleep(0.1)
                after = resource.getrusage(resource.RUSAGE_SELF)
                with socket.create_connection(server.getsockname()) as one:
                    one.sendall(b"x")
                    assert one.recv(1) == b"x"
                found = idle
                holder.communicate()
            until(lambda: not idle)
            server.close()
            acceptor.join()
        return found, after.ru_nvcsw - cpu.ru_nvcsw

    try:
        found, switches = run_scheduler(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found >= count
    # It slept: a scheduler that looks at each connection now and then would wake up far more often.
    assert switches < 20
