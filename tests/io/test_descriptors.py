"""A socket's descriptor in the hands of others: it blocks where that of a standard socket would, and no thread does."""

from __future__ import annotations

import os
import socket as standard
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenthreads import Thread, run_scheduler, socket, ssl, yield_now
from greenthreads.carriers import Kind
from scheduler import poller
from scheduler.poller import READ, is_ready

InThread = Callable[..., Any]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket's descriptor never blocks")


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_SLICE", 0.005)


def blocks(sock: Any) -> bool:
    return os.get_blocking(sock.fileno())


def test_it_blocks_where_that_of_a_standard_socket_does(outcome: Callable[..., Any]) -> None:
    ours, theirs = socket.socket(), standard.socket()
    with ours, theirs:
        assert blocks(ours) is blocks(theirs) is True
        for timeout in (5, None, 0, None, -1, "x", 0.0, float("nan"), 2.5, 1e30, None, 1e30):
            assert outcome(ours.settimeout, timeout) == outcome(theirs.settimeout, timeout)
            assert blocks(ours) is blocks(theirs), timeout
    for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM | socket.SOCK_NONBLOCK):
        with socket.socket(type=kind) as ours, standard.socket(type=kind) as theirs:
            assert blocks(ours) is blocks(theirs)


def test_a_default_timeout_has_it_not_block() -> None:
    socket.setdefaulttimeout(5)
    try:
        with socket.socket() as sock:
            assert (blocks(sock), sock.gettimeout()) == (False, 5)
    finally:
        socket.setdefaulttimeout(None)


def test_a_child_reads_a_socket_as_its_standard_input(in_thread: InThread) -> None:
    program = "import os; print(os.get_blocking(0), flush=True); print(os.read(0, 10).decode())"

    def body() -> list[bytes]:
        a, b = socket.socketpair()
        with a, b, subprocess.Popen([sys.executable, "-c", program], stdin=b, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            a.sendall(b"sent later")
            return [first, child.stdout.read()]

    assert in_thread(body) == [b"True\n", b"sent later\n"]


def receiving(sock: Any) -> list[Callable[[], Any]]:
    buffer = bytearray(1)
    return [
        lambda: sock.recv(1),
        lambda: sock.recv(1, socket.MSG_NOSIGNAL),
        lambda: sock.recv_into(buffer),
        lambda: sock.recvfrom(1),
        lambda: sock.recvfrom(1, socket.MSG_NOSIGNAL),
        lambda: sock.recvfrom_into(buffer),
        lambda: sock.recvmsg(1),
        lambda: sock.recvmsg(1, 16),
        lambda: sock.recvmsg(1, 0, socket.MSG_NOSIGNAL),
        lambda: sock.recvmsg_into([buffer]),
        lambda: sock.recvmsg_into([buffer], 0, 0),
    ]


def test_who_receives_keeps_nobody_from_running() -> None:
    def main() -> int:
        a, b = socket.socketpair()
        done = 0
        with a, b:
            for call in receiving(b):
                thread = Thread(target=call)
                thread.start()
                yield_now()
                assert blocks(b)
                a.send(b"x")
                thread.join()
                done += 1
        return done

    assert run_scheduler(main) == 11


def sending(sock: Any, file: Any) -> list[Callable[[], Any]]:
    data = bytes(1_000_000)
    return [
        lambda: sock.send(data),
        lambda: sock.send(data, socket.MSG_NOSIGNAL),
        lambda: sock.sendall(data),
        lambda: sock.sendall(data, socket.MSG_NOSIGNAL),
        lambda: sock.sendmsg([data]),
        lambda: sock.sendmsg([data], [], socket.MSG_NOSIGNAL),
        lambda: sock.sendfile(file),
    ]


def test_who_sends_keeps_nobody_from_running(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    record: list[bool] = []

    def attempt(call: Callable[[socket.socket, Any], Any]) -> None:
        a, b = socket.socketpair()
        with a, b, open(path, "rb") as file:
            while True:
                try:
                    a.send(bytes(100_000), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
            thread = Thread(target=call, args=(a, file))
            thread.start()
            yield_now()
            record.append(blocks(a))
            a_is_done = False
            while not a_is_done:
                b.recv(1_000_000)
                yield_now()
                a_is_done = not thread.is_alive()
            record.append(blocks(a))

    def main() -> None:
        for number in range(7):
            attempt(lambda sock, file, number=number: sending(sock, file)[number]())

    run_scheduler(main)
    assert record == [True] * 14


def test_datagrams_are_sent_to_an_address_as_ever(in_thread: InThread, outcome: Callable[..., Any]) -> None:
    def body() -> list[bytes]:
        with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
            a.bind(("127.0.0.1", 0))
            address = a.getsockname()
            b.sendto(b"1", address)
            b.sendto(b"2", 0, address)
            b.sendmsg([b"3"], [], 0, address)
            with standard.socket(type=standard.SOCK_DGRAM) as theirs:
                for wrong in ((b"x",), (b"x", "flags", address), (b"x", 0, address, 1), (b"x", None)):
                    assert outcome(b.sendto, *wrong) == outcome(theirs.sendto, *wrong)
            return [a.recv(10), a.recv(10), a.recv(10)]

    assert in_thread(body) == [b"1", b"2", b"3"]


def test_a_connection_that_takes_time_blocks_its_thread_alone() -> None:
    record: list[Any] = []

    def connect(sock: Any, address: Any) -> None:
        try:
            sock.connect(address)
            record.append("connected")
        except OSError as error:
            record.append(error.strerror)

    def main() -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            # There is room for one; the system does not answer the others.
            sockets = [socket.socket() for _ in range(4)]
            threads = [Thread(target=connect, args=(each, server.getsockname())) for each in sockets]
            for each in threads:
                each.start()
            yield_now()
            record.append([blocks(each) for each in sockets])
            for sock in sockets:
                sock.close()
            for each in threads:
                each.join()

    run_scheduler(main)
    assert record.index([True] * 4) < record.index("Bad file descriptor")


def test_one_that_listens_blocks_until_somebody_accepts_here(in_thread: InThread) -> None:
    def body() -> list[bool]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            found = [blocks(server)]
            with socket.create_connection(server.getsockname()), server.accept()[0] as connection:
                found += [blocks(server), blocks(connection)]
            server.settimeout(None)
            found.append(blocks(server))
            with server.dup() as other:
                found += [blocks(server), other.gettimeout() is None]
            fd = server.detach()
            found.append(os.get_blocking(fd))
            os.close(fd)
            return found

    assert in_thread(body) == [True, False, True, False, False, True, True]


def test_a_connection_that_another_takes_first_keeps_nobody(kind: Kind) -> None:
    """Both are told of it; who comes second waits for the next, and doesn't block in the call."""
    record: list[str] = []

    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def accept() -> None:
                server.accept()[0].close()
                record.append("accepted")

            threads = [Thread(target=accept, kind=kind) for _ in range(2)]
            for each in threads:
                each.start()
            yield_now()
            for _ in threads:
                socket.create_connection(server.getsockname()).close()
            for each in threads:
                each.join()

    run_scheduler(main)
    assert record == ["accepted", "accepted"]


def test_that_of_tls_does_not_block(in_thread: InThread) -> None:
    def body() -> list[bool]:
        a, b = socket.socketpair()
        with a, b:
            context = ssl.create_default_context()
            context.check_hostname = False
            with context.wrap_socket(a, do_handshake_on_connect=False) as wrapped:
                return [blocks(wrapped), wrapped.gettimeout() is None]

    assert in_thread(body) == [False, True]


# ---- MSG_WAITALL -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("into", [False, True])
def test_all_is_waited_for_where_the_flags_say_so(in_thread: InThread, into: bool) -> None:
    def receive(sock: Any, count: int) -> bytes:
        if not into:
            data: bytes = sock.recv(count, socket.MSG_WAITALL)
            return data
        buffer = bytearray(count)
        return bytes(buffer[: sock.recv_into(buffer, 0, socket.MSG_WAITALL)])

    def body() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _address = server.accept()
        with a, b:
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found = []

            def write() -> None:
                for piece in (b"in", b" pieces", b" and the end"):
                    a.send(piece)
                    while is_ready(b.fileno(), READ):
                        yield_now()  # It was not taken.
                a.shutdown(socket.SHUT_WR)

            thread = Thread(target=write)
            thread.start()
            found += [receive(b, 9), receive(b, 100), receive(b, 100)]
            thread.join()
            a.setblocking(True)
            b.send(b"x")
            a.settimeout(5)
            found.append(receive(a, 2))  # With a timeout the system does not wait for all of it either.
            return found

    assert in_thread(body) == [b"in pieces", b" and the end", b"", b"x"]
