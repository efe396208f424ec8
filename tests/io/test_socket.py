"""`greenthreads.socket`: what the standard class promises, to threads of both kinds; and others run meanwhile."""

from __future__ import annotations

import errno
import io
import os
import select
import socket as standard
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import greenthreads
import scheduler.kernel
from greenthreads import Thread, _resolving, _waiting, run_in_kernel_thread, run_scheduler, socket, yield_now
from greenthreads.carriers import Kind
from scheduler import poller

InThread = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_SLICE", 0.005)


def serve_echo(server: Any, kind: Kind) -> Thread:
    """Accept until the server is closed; a thread for each connection."""

    def echo(connection: Any) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept() -> None:
        threads = []
        while True:
            try:
                connection, _address = server.accept()
            except OSError:
                break
            threads.append(Thread(target=echo, args=(connection,), kind=kind))
            threads[-1].start()
        for each in threads:
            each.join()

    thread = Thread(target=accept, kind=kind)
    thread.start()
    return thread


def receive(sock: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


# ---- Streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [standard.AF_INET, standard.AF_INET6, standard.AF_UNIX])
def test_a_server_and_many_clients(kind: Kind, family: int, tmp_path: Path) -> None:
    record: list[bytes] = []

    def client(address: Any, number: int) -> None:
        with socket.socket(family) as sock:
            sock.connect(address)
            for round_ in range(3):
                message = f"{number}.{round_}".encode()
                sock.sendall(message)
                assert receive(sock, len(message)) == message
                record.append(message)

    def main() -> None:
        server = socket.socket(family)
        addresses: dict[int, Any] = {standard.AF_INET: ("localhost", 0), standard.AF_INET6: ("::1", 0)}
        try:
            server.bind(addresses.get(family, str(tmp_path / "s")))
        except OSError as error:
            pytest.skip(f"no such family here: {error}")
        server.listen(50)
        acceptor = serve_echo(server, kind)
        clients = [Thread(target=client, args=(server.getsockname(), n), kind=kind) for n in range(20)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        server.close()
        acceptor.join()

    run_scheduler(main)
    assert sorted(record) == sorted(f"{n}.{r}".encode() for n in range(20) for r in range(3))


def test_others_run_while_one_waits() -> None:
    record: list[str] = []

    def main() -> None:
        a, b = socket.socketpair()
        with a, b:
            reader = Thread(target=lambda: record.append(a.recv(100).decode()))
            reader.start()
            yield_now()
            record.append("others run")
            b.sendall(b"then it is read")
            reader.join()

    run_scheduler(main)
    assert record == ["others run", "then it is read"]


def test_two_threads_read_and_write_one_socket(kind: Kind) -> None:
    size = 3_000_000
    received: dict[str, int] = {}

    def main() -> None:
        a, b = socket.socketpair()

        def write(sock: Any) -> None:
            sock.sendall(b"x" * size)
            sock.shutdown(socket.SHUT_WR)

        def read(name: str, sock: Any) -> None:
            count = 0
            while data := sock.recv(65536):
                count += len(data)
            received[name] = count

        threads = [
            Thread(target=target, args=args, kind=kind)
            for target, args in ((write, (a,)), (write, (b,)), (read, ("a", a)), (read, ("b", b)))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        a.close()
        b.close()

    run_scheduler(main)
    assert received == {"a": size, "b": size}


def test_the_end_is_seen_after_a_short_read(in_thread: InThread) -> None:
    """Less was read than there was room for, and then the other side went."""

    def body() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            found = []
            a.sendall(b"one")
            found.append(b.recv(100))
            a.sendall(b"two")
            a.close()
            found += [b.recv(100), b.recv(100), b.recv(100)]
            b.close()
            return found

    assert in_thread(body) == [b"one", b"two", b"", b""]


def test_nothing_is_received_without_a_wait(in_thread: InThread, outcome: Callable[..., Any]) -> None:
    """Also after a short read, where the next one would wait at once."""

    def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
        with a, b, standard.socket() as theirs:
            sender = Thread(target=lambda: a.sendall(b"x"))
            sender.start()
            assert b.recv(100) == b"x"
            sender.join()
            for call in (
                lambda sock: sock.recv(0),
                lambda sock: sock.recv(-1),
                lambda sock: sock.recv_into(bytearray()),
                lambda sock: sock.recv_into(bytearray(), 0),
                lambda sock: sock.recv_into(bytearray(1), -1),
            ):
                assert outcome(call, b) == outcome(call, theirs)

    in_thread(body)


def test_what_stands_behind_urgent_data_is_read(in_thread: InThread) -> None:
    """A read stops at the mark: it is short, and has not left nothing."""

    def body() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            with a, b:
                b.settimeout(10)
                Thread(target=lambda: a.sendall(b"x")).start()
                found = [b.recv(100)]  # It has waited, so from now on changes are reported.
                a.sendall(b"before")
                a.send(b"!", socket.MSG_OOB)
                a.sendall(b"after")
                while len(b"".join(found)) < 12:
                    found.append(b.recv(100))
                return [b"".join(found)]

    assert in_thread(body) == [b"xbeforeafter"]


def test_a_second_scheduler_takes_over_a_socket() -> None:
    """Its own poller has not been told of anything that the first one's was."""
    a, b = socket.socketpair()
    record: list[bytes] = []

    def read() -> None:
        b.sendall(b"x")
        record.append(a.recv(100))
        waker = Thread(target=lambda: b.sendall(b"y"))
        waker.start()
        record.append(a.recv(100))
        waker.join()

    run_scheduler(read)
    run_scheduler(read)
    thread = Thread(target=run_scheduler, args=(read,), kind="kernel")
    thread.start()
    thread.join()
    assert record == [b"x", b"y"] * 3
    a.close()
    b.close()


def test_a_user_thread_and_a_kernel_thread_talk() -> None:
    def answer(sock: Any) -> None:
        for _ in range(100):
            sock.sendall(sock.recv(10))

    def main() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
        thread = Thread(target=answer, args=(b,), kind="kernel")
        thread.start()
        found = []
        for _ in range(100):
            a.sendall(b"ping")
            found.append(receive(a, 4))
        thread.join()
        a.close()
        b.close()
        return found

    assert run_scheduler(main) == [b"ping"] * 100


def test_a_thread_that_never_has_to_wait_lets_others_run() -> None:
    count = 0

    def main() -> None:
        nonlocal count
        a, b = socket.socketpair()
        with a, b:

            def tick() -> None:
                nonlocal count
                while not done:
                    count += 1
                    yield_now()

            done: list[bool] = []
            thread = Thread(target=tick)
            thread.start()
            for _ in range(300):
                b.send(b"x")
                a.recv(1)
            done.append(True)
            thread.join()

    run_scheduler(main)
    assert count >= 2


# ---- Timeouts, errors, closing ---------------------------------------------------------------------------------------


def test_a_timeout(in_thread: InThread) -> None:
    def body() -> None:
        a, b = socket.socketpair()
        with a, b:
            a.settimeout(0.01)
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                a.recv(1)
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                a.recv_into(bytearray(1))
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                a.sendall(bytes(10_000_000))
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                a.recvfrom(1)

    in_thread(body)


def test_a_socket_that_shall_not_wait_does_not(in_thread: InThread) -> None:
    def body() -> None:
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            for call in (lambda: a.recv(1), lambda: a.recv_into(bytearray(1)), lambda: a.recvfrom(1)):
                with pytest.raises(BlockingIOError):
                    call()
            with pytest.raises(BlockingIOError):
                a.sendall(bytes(10_000_000))

    in_thread(body)


@pytest.mark.skipif(not hasattr(standard, "MSG_DONTWAIT"), reason="needs MSG_DONTWAIT")
def test_a_call_that_shall_not_wait_does_not(in_thread: InThread) -> None:
    def body() -> None:
        a, b = socket.socketpair()
        with a, b:
            b.send(b"x")
            assert a.recv(100) == b"x"
            buffer = bytearray(10)
            for call in (
                lambda: a.recv(1, socket.MSG_DONTWAIT),
                lambda: a.recv_into(buffer, 1, socket.MSG_DONTWAIT),
                lambda: a.recvfrom(1, socket.MSG_DONTWAIT),
                lambda: a.recvfrom_into(buffer, 1, socket.MSG_DONTWAIT),
                lambda: a.recvmsg(1, 0, socket.MSG_DONTWAIT),
                lambda: a.recvmsg_into([buffer], 0, socket.MSG_DONTWAIT),
            ):
                with pytest.raises(BlockingIOError):
                    call()
            with pytest.raises(BlockingIOError):
                while True:
                    a.send(bytes(100_000), socket.MSG_DONTWAIT)
            with pytest.raises(BlockingIOError):
                a.sendmsg([bytes(100_000)], [], socket.MSG_DONTWAIT)

    in_thread(body)


@pytest.mark.skipif(not hasattr(standard, "SOCK_NONBLOCK"), reason="needs SOCK_NONBLOCK")
def test_the_type_may_say_that_a_socket_does_not_wait() -> None:
    with socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        assert (sock.gettimeout(), sock.getblocking()) == (0.0, False)


def test_timeouts_are_kept_as_the_standard_class_keeps_them(outcome: Callable[..., Any]) -> None:
    ours, theirs = socket.socket(), standard.socket()
    with ours, theirs:
        for value in (None, 0, 1, 1.5, 0.0, True, -1, "x", float("nan"), float("inf"), 1e30):
            assert outcome(ours.settimeout, value) == outcome(theirs.settimeout, value), value
            if not isinstance(value, str) and value in (None, 0, 1, 1.5):
                assert ours.gettimeout() == theirs.gettimeout() == ours.timeout
                assert ours.getblocking() == theirs.getblocking()
        for flag in (True, False):
            ours.setblocking(flag)
            theirs.setblocking(flag)
            assert (ours.gettimeout(), ours.getblocking()) == (theirs.gettimeout(), theirs.getblocking())


def test_the_default_timeout() -> None:
    socket.setdefaulttimeout(7)
    try:
        with socket.socket() as sock:
            assert sock.gettimeout() == 7
            assert socket.getdefaulttimeout() == 7
    finally:
        socket.setdefaulttimeout(None)


def test_a_refused_connection(in_thread: InThread) -> None:
    def body() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            with socket.socket() as sock:
                with pytest.raises(ConnectionRefusedError):
                    sock.connect(nobody.getsockname())
            with socket.socket() as sock:
                assert sock.connect_ex(nobody.getsockname()) == errno.ECONNREFUSED
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(nobody.getsockname(), timeout=5)

    in_thread(body)


def test_a_unix_socket_with_a_full_backlog_is_waited_for(in_thread: InThread, tmp_path: Path) -> None:
    def body() -> int:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            server.listen(0)
            first, second, third = (socket.socket(socket.AF_UNIX) for _ in range(3))
            with first, second, third:
                first.connect(server.getsockname())
                second.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    while True:
                        second.connect(server.getsockname())
                        second = socket.socket(socket.AF_UNIX)
                        second.settimeout(0.01)
                accepted: list[Any] = []
                waiting = Thread(target=lambda: accepted.append(server.accept()))
                waiting.start()
                third.connect(server.getsockname())
                waiting.join()
                accepted[0][0].close()
                return len(accepted)

    assert in_thread(body) == 1


@pytest.mark.parametrize("what", ["recv", "recv_into", "accept", "sendall", "recvfrom"])
def test_closing_ends_the_waits_of_others(kind: Kind, what: str, waits_for_a_descriptor: Any, until: Any) -> None:
    record: list[int | None] = []

    def main() -> None:
        if what == "accept":
            a, b = socket.create_server(("127.0.0.1", 0)), None
        elif what == "recvfrom":
            a, b = socket.socket(type=socket.SOCK_DGRAM), None
            a.bind(("127.0.0.1", 0))
        else:
            a, b = socket.socketpair()

        def wait() -> None:
            arguments = {"recv_into": bytearray(1), "sendall": bytes(10_000_000)}.get(what, 1)
            try:
                getattr(a, what)(*(() if what == "accept" else (arguments,)))
            except OSError as error:
                record.append(error.errno)

        thread = Thread(target=wait, kind=kind)
        thread.start()
        until(lambda: waits_for_a_descriptor(thread))
        a.close()
        thread.join()
        if b is not None:
            b.close()

    run_scheduler(main)
    assert record == [errno.EBADF]


def test_an_interrupt_ends_a_wait(
    kind: Kind, waits_for_a_descriptor: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler.kernel, "_LONG_INSIDE", 0.01)
    record: list[str] = []

    def main() -> None:
        a, b = socket.socketpair()

        def wait() -> None:
            try:
                a.recv(1)
            except greenthreads.ThreadInterrupted:
                record.append("interrupted")

        thread = Thread(target=wait, kind=kind)
        thread.start()
        until(lambda: waits_for_a_descriptor(thread))
        thread.interrupt()
        thread.join()
        a.close()
        b.close()

    run_scheduler(main)
    assert record == ["interrupted"]


def test_a_number_used_again_right_away() -> None:
    """The waiter of the closed socket is told; the new socket with its number gets what is its own."""
    record: list[object] = []

    def read(sock: Any) -> None:
        try:
            record.append(sock.recv(10))
        except OSError as error:
            record.append(error.errno)

    def main() -> None:
        a, b = socket.socketpair()
        old = Thread(target=read, args=(a,))
        old.start()
        yield_now()
        number = a.fileno()
        a.close()
        c, d = socket.socketpair()
        assert number in (c.fileno(), d.fileno())
        new = Thread(target=read, args=(c,))
        new.start()
        yield_now()
        b.close()
        d.sendall(b"new")
        old.join()
        new.join()
        c.close()
        d.close()

    run_scheduler(main)
    assert record == [errno.EBADF, b"new"]


def test_closed_by_another_kernel_thread_while_a_thread_begins_to_wait(
    monkeypatch: pytest.MonkeyPatch, until: Any, waits: Any
) -> None:
    """It comes too late to be among those that the closing wakes, and must be told all the same."""
    record: list[object] = []
    may_read = threading.Event()
    real = poller.closing

    def main() -> None:
        a, b = socket.socketpair()

        def read() -> None:
            run_in_kernel_thread(may_read.wait)
            try:
                record.append(a.recv(1))
            except OSError as error:
                record.append(error.errno)

        def closing(fd: int) -> None:
            real(fd)
            may_read.set()
            until(lambda: record or (waits(reader) and isinstance(reader._task.wait, poller.Descriptor)))

        with monkeypatch.context() as patch:
            patch.setattr(socket, "closing", closing)
            reader = Thread(target=read)
            reader.start()
            closer = Thread(target=a.close, kind="kernel")
            closer.start()
            closer.join()
        reader.join()
        b.close()

    run_scheduler(main)
    assert record == [errno.EBADF]


def test_a_number_used_again_before_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looked at the number of a socket before another kernel thread closed it does not wait for what has it now."""
    real = poller.watch

    def main() -> None:
        a, b = socket.socketpair()
        taken: list[int] = []

        def watch(me: Any, fd: int) -> Any:
            closer = threading.Thread(target=a.close)
            closer.start()
            closer.join()
            taken.extend(os.pipe())
            assert fd in taken
            return real(me, fd)

        with monkeypatch.context() as patch:
            patch.setattr(_waiting, "watch", watch)
            with pytest.raises(OSError, match="Bad file descriptor"):
                a.recv(1)
        for fd in taken:
            os.close(fd)
        b.close()

    run_scheduler(main)


def test_exceptions_of_a_closed_socket(in_thread: InThread) -> None:
    def body() -> None:
        a, b = socket.socketpair()
        a.close()
        with b:
            for call in (lambda: a.recv(1), lambda: a.send(b"x"), lambda: a.sendall(b"x"), a.accept):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    call()

    in_thread(body)


# ---- Datagrams, messages, files --------------------------------------------------------------------------------------


def test_datagrams(in_thread: InThread) -> None:
    def body() -> list[Any]:
        with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
            a.bind(("127.0.0.1", 0))
            b.bind(("127.0.0.1", 0))
            reader = Thread(target=lambda: found.append(a.recvfrom(100)))
            found: list[Any] = []
            reader.start()
            b.sendto(b"hello", a.getsockname())
            reader.join()
            b.connect(a.getsockname())
            # Two at once: to read less than the room there is does not mean that nothing is left.
            b.send(b"1")
            b.send(b"2")
            found += [a.recv(100), a.recv(100)]
            buffer = bytearray(10)
            b.sendto(b"into", a.getsockname())
            found.append(a.recvfrom_into(buffer)[0])
            b.sendmsg([b"a", b"b"])
            found.append(a.recvmsg(100)[0])
            b.sendmsg(iter([b"c", b"d"]))
            found.append(a.recvmsg_into([buffer])[0])
            assert found.pop(0) == (b"hello", b.getsockname())
            return found

    assert in_thread(body) == [b"1", b"2", 4, b"ab", 2]


def test_descriptors_are_passed(in_thread: InThread) -> None:
    def body() -> bytes:
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        read, write = os.pipe()
        with a, b:
            socket.send_fds(a, [b"take"], [write])
            _data, fds, _flags, _address = socket.recv_fds(b, 100, 1)
            os.write(fds[0], b"passed")
            for fd in (write, *fds):
                os.close(fd)
            with open(read, "rb") as file:
                return file.read()

    assert in_thread(body) == b"passed"


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_files(in_thread: InThread, mode: str) -> None:
    def body() -> list[Any]:
        a, b = socket.socketpair()
        with a, b, a.makefile("w" + mode[1:]) as writer, b.makefile(mode) as reader:
            lines = [f"line {n}\n" for n in range(1000)]
            thread = Thread(target=lambda: found.extend(reader.readline() for _ in lines))
            found: list[Any] = []
            thread.start()
            for line in lines:
                writer.write(line.encode() if "b" in mode else line)
            writer.flush()
            thread.join()
            return [line.decode() if isinstance(line, bytes) else line for line in found]

    assert in_thread(body) == [f"line {n}\n" for n in range(1000)]


def test_a_file_times_out_as_the_standard_one(in_thread: InThread) -> None:
    def body() -> None:
        a, b = socket.socketpair()
        with a, b:
            a.settimeout(0.01)
            with a.makefile("rb") as file:
                with pytest.raises(TimeoutError):
                    file.read(1)
                with pytest.raises(OSError, match="cannot read from timed out object"):
                    file.read(1)

    in_thread(body)


@pytest.mark.parametrize("count", [None, 100_000])
def test_sendfile(in_thread: InThread, tmp_path: Path, count: int | None) -> None:
    path = tmp_path / "file"
    content = os.urandom(2_000_000)
    path.write_bytes(content)

    def body() -> None:
        a, b = socket.socketpair()
        received: list[bytes] = []

        def read() -> None:
            while data := b.recv(65536):
                received.append(data)

        thread = Thread(target=read)
        thread.start()
        with open(path, "rb") as file:
            expected = len(content) - 10 if count is None else count
            assert a.sendfile(file, 10, count) == expected
            assert file.tell() == 10 + expected
        with io.BytesIO(b"no descriptor") as source:
            assert a.sendfile(source) == 13
        a.close()
        thread.join()
        b.close()
        assert b"".join(received) == content[10 : 10 + expected] + b"no descriptor"

    in_thread(body)


# ---- Names -----------------------------------------------------------------------------------------------------------


def test_names_are_resolved_off_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a name server hangs, others run; the thread that asked waits."""
    hang = threading.Event()
    real = standard.getaddrinfo

    def hanging(host: Any, *args: Any) -> Any:
        if host == "a.name.invalid":
            assert hang.wait(30)
            host = "127.0.0.1"
        return real(host, *args)

    monkeypatch.setattr(_resolving, "_getaddrinfo", hanging)
    record: list[str] = []

    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

            def connect() -> None:
                socket.create_connection(("a.name.invalid", port)).close()
                record.append("connected")

            def connect_itself() -> None:
                with socket.socket() as sock:
                    sock.connect(("a.name.invalid", port))
                record.append("connected")

            threads = [Thread(target=connect), Thread(target=connect_itself)]
            for each in threads:
                each.start()
            yield_now()
            # Digits need nobody.
            socket.create_connection(("127.0.0.1", port)).close()
            record.append("others run")
            hang.set()
            for each in threads:
                each.join()

    run_scheduler(main)
    assert record == ["others run", "connected", "connected"]


def test_the_answers_are_the_standard_ones(in_thread: InThread, outcome: Callable[..., Any]) -> None:
    questions: list[tuple[str, tuple[Any, ...]]] = [
        ("getaddrinfo", ("localhost", 80)),
        ("getaddrinfo", ("127.0.0.1", 80)),
        ("getaddrinfo", (None, 80, socket.AF_INET, socket.SOCK_STREAM)),
        ("gethostbyname", ("localhost",)),
        ("gethostbyname_ex", ("localhost",)),
        ("getnameinfo", (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)),
        ("gethostbyname", (1,)),
        ("getfqdn", ("localhost",)),
    ]

    def body() -> None:
        for name, args in questions:
            assert outcome(getattr(socket, name), *args) == outcome(getattr(standard, name), *args)

    in_thread(body)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_daemon_that_forks_waits_in_the_child() -> None:
    """As in a server that forks for each connection, and was itself started as a daemon."""

    def main() -> bytes:
        a, b = socket.socketpair()
        statuses: list[int] = []

        def fork() -> None:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    b.sendall(b.recv(100))
                    status = 0
                finally:
                    os._exit(status)
            b.close()
            statuses.append(child)

        thread = Thread(target=fork, daemon=True)
        thread.start()
        thread.join()
        with a:
            a.sendall(b"hello")
            answer: bytes = a.recv(100)
        assert os.waitstatus_to_exitcode(os.waitpid(statuses[0], 0)[1]) == 0
        return answer

    assert run_scheduler(main) == b"hello"


# ---- Being a drop-in -------------------------------------------------------------------------------------------------


def test_all_names_are_there() -> None:
    missing = [name for name in dir(standard) if not name.startswith("__") and not hasattr(socket, name)]
    assert missing == []
    assert issubclass(socket.socket, standard.socket)


def test_what_makes_sockets_makes_ours(in_thread: InThread) -> None:
    def body() -> set[type]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            c, d = socket.socketpair()
            e = socket.fromfd(c.fileno(), c.family, c.type)
            f = c.dup()
            made = [server, a, b, c, d, e, f]
            for each in made:
                each.close()
            return {type(each) for each in made}

    assert in_thread(body) == {socket.socket}


def test_a_detached_descriptor_blocks_as_that_of_a_standard_socket() -> None:
    for timeout, blocking in ((None, True), (5, False), (0, False)):
        sock, theirs = socket.socket(), standard.socket()
        sock.settimeout(timeout)
        theirs.settimeout(timeout)
        fds = [sock.detach(), theirs.detach()]
        assert [os.get_blocking(fd) for fd in fds] == [blocking, blocking]
        for fd in fds:
            os.close(fd)


def test_a_reset_by_the_other_side(in_thread: InThread) -> None:
    def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            # Closed with a linger time of 0, it resets.
            a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader = Thread(target=a.close)
            reader.start()
            with pytest.raises(ConnectionResetError):
                b.recv(1)
            reader.join()
            b.close()

    in_thread(body)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="counts what is registered with epoll")
def test_closing_leaves_nothing_behind() -> None:
    def main() -> int:
        for _ in range(100):
            a, b = socket.socketpair()
            a.settimeout(0.0001)
            with pytest.raises(TimeoutError):
                a.recv(1)
            a.close()
            b.close()
        (mine,) = poller.pollers
        return len(mine._descriptors)

    assert run_scheduler(main) == 0
