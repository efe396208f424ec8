"""`greenthreads.ssl`: handshakes, reads and writes park; errors, timeouts and sessions are the standard ones."""

from __future__ import annotations

import ssl as standard
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenthreads import Thread, run_scheduler, socket, ssl, yield_now
from greenthreads.carriers import Kind

InThread = Callable[..., Any]

# A key and a certificate for localhost that nobody else trusts.
PEM = str(Path(__file__).parent / "localhost.pem")


def contexts() -> tuple[Any, Any]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(PEM)
    return server, ssl.create_default_context(cafile=PEM)


def connected(kind: Kind) -> tuple[Any, Any]:
    """Both ends of a TLS connection, (client, server), through a handshake."""
    server_context, client_context = contexts()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[Any] = []

        def accept() -> None:
            raw, _ = listener.accept()
            accepted.append(server_context.wrap_socket(raw, server_side=True))

        thread = Thread(target=accept, kind=kind)
        thread.start()
        raw = socket.create_connection(listener.getsockname())
        client = client_context.wrap_socket(raw, server_hostname="localhost")
        thread.join()
        return client, accepted[0]


@pytest.fixture
def in_scheduler(kind: Kind) -> Callable[[Callable[[Any, Any], Any]], Any]:
    def run(body: Callable[[Any, Any], Any]) -> Any:
        def main() -> Any:
            client, server = connected(kind)
            with client, server:
                return body(client, server)

        return run_scheduler(main)

    return run


def test_messages(in_scheduler: Any, kind: Kind) -> None:
    def body(client: Any, server: Any) -> list[Any]:
        def echo() -> None:
            while data := server.recv(1000):
                server.sendall(data)
            server.unwrap()

        thread = Thread(target=echo, kind=kind)
        thread.start()
        found = []
        for message in (b"one", b"two" * 1000):
            client.sendall(message)
            data = b""
            while len(data) < len(message):
                data += client.recv(10_000)
            found.append(data == message)
        found.append(client.version() in ("TLSv1.2", "TLSv1.3"))
        found.append(type(client.unwrap()))
        thread.join()
        return found

    assert in_scheduler(body) == [True, True, True, ssl.SSLSocket]


def test_much_in_both_directions(in_scheduler: Any) -> None:
    size = 2_000_000

    def body(client: Any, server: Any) -> list[int]:
        counts: list[int] = []

        def read(sock: Any) -> None:
            count = 0
            while count < size:
                count += sock.recv_into(bytearray(100_000))
            counts.append(count)

        # In user threads: OpenSSL's own state is not for two kernel threads at once.
        threads = [Thread(target=each.sendall, args=(bytes(size),), kind="user") for each in (client, server)]
        threads += [Thread(target=read, args=(each,), kind="user") for each in (client, server)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return counts

    assert in_scheduler(body) == [size, size]


def test_files(in_scheduler: Any) -> None:
    def body(client: Any, server: Any) -> bytes:
        with client.makefile("wb") as writer, server.makefile("rb") as reader:
            thread = Thread(target=lambda: (writer.write(b"a line\n"), writer.flush()))
            thread.start()
            line: bytes = reader.readline()
            thread.join()
            return line

    assert in_scheduler(body) == b"a line\n"


def test_timeouts(in_scheduler: Any) -> None:
    def body(client: Any, server: Any) -> None:
        client.settimeout(0.01)
        with pytest.raises(TimeoutError, match="The read operation timed out"):
            client.recv(1)
        client.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            client.recv(1)
        client.settimeout(0.01)
        with pytest.raises(TimeoutError, match="The write operation timed out"):
            while True:
                client.sendall(bytes(100_000))

    in_scheduler(body)


def test_a_peer_that_stops_in_the_handshake(kind: Kind) -> None:
    """The handshake ends when its time is up, and meanwhile others run."""
    record: list[str] = []

    def main() -> None:
        server_context, _ = contexts()
        a, b = socket.socketpair()

        def shake() -> None:
            a.settimeout(0.01)
            with pytest.raises(TimeoutError, match="The handshake operation timed out"):
                server_context.wrap_socket(a, server_side=True)
            record.append("timed out")

        thread = Thread(target=shake, kind=kind)
        thread.start()
        b.sendall(b"\x16\x03\x01")  # The beginning of a greeting.
        yield_now()
        record.append("others run")
        thread.join()
        b.close()

    run_scheduler(main)
    assert record == ["others run", "timed out"]


def test_who_is_not_trusted_is_refused(in_thread: InThread, kind: Kind) -> None:
    def body() -> None:
        server_context, _ = contexts()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def accept() -> None:
                raw, _ = listener.accept()
                with raw, pytest.raises(ssl.SSLError):
                    server_context.wrap_socket(raw, server_side=True)

            thread = Thread(target=accept, kind=kind)
            thread.start()
            with socket.create_connection(listener.getsockname()) as raw:
                with pytest.raises(ssl.SSLCertVerificationError):
                    ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
            thread.join()

    in_thread(body)


def test_a_socket_may_be_wrapped_before_it_is_connected(in_thread: InThread, kind: Kind) -> None:
    def body() -> bytes:
        server_context, client_context = contexts()
        raw_listener = socket.create_server(("127.0.0.1", 0))
        with server_context.wrap_socket(raw_listener, server_side=True) as listener:

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"hello")

            thread = Thread(target=serve, kind=kind)
            thread.start()
            with client_context.wrap_socket(socket.socket(), server_hostname="localhost") as client:
                client.connect(listener.getsockname())
                found: bytes = client.recv(100)
            thread.join()
            return found

    assert in_thread(body) == b"hello"


def test_all_names_are_there() -> None:
    missing = [name for name in dir(standard) if not name.startswith("__") and not hasattr(ssl, name)]
    assert missing == []
    assert issubclass(ssl.SSLSocket, standard.SSLSocket)
    assert isinstance(ssl.create_default_context(), ssl.SSLContext)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each question to OpenSSL whether there is anything to read found, from now on."""
    answers: list[str] = []
    ask = standard.SSLSocket.read

    def read(sock: Any, *args: Any) -> Any:
        try:
            data = ask(sock, *args)
        except ssl.SSLWantReadError:
            answers.append("nothing")
            raise
        answers.append("data" if data else "the end")
        return data

    monkeypatch.setattr(ssl, "_read", read)
    return answers


def test_after_a_short_read_nobody_asks_in_vain(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first read knows nothing of the socket; those that follow wait until something has come."""
    if "kqueue" in system:
        pytest.skip("kqueue does not tell of urgent data, so what a short read has left is always looked for")
    answers: list[str] = []

    def main() -> None:
        client, server = connected("user")
        with client, server:

            def echo() -> None:
                while data := server.recv(1000):
                    server.sendall(data)
                server.unwrap()

            asked = counting(monkeypatch)
            thread = Thread(target=echo)
            thread.start()
            for _ in range(5):
                client.send(b"x")
                client.recv(1000)
            answers.extend(asked)
            client.unwrap()
            thread.join()

    run_scheduler(main)
    assert answers.count("nothing") <= 2
    assert answers.count("data") == 10


def test_nothing_is_read_without_a_wait(in_scheduler: Any) -> None:
    """Also after a short read, where the next one would wait at once."""

    def body(client: Any, server: Any) -> list[Any]:
        sender = Thread(target=lambda: server.send(b"x"))
        sender.start()
        found = [client.recv(100), client.recv(0), client.read(0)]
        sender.join()
        return found

    assert in_scheduler(body) == [b"x", b"", b""]


@pytest.mark.parametrize("together", [1, 2, 5])
def test_records_that_came_together_are_all_read(in_scheduler: Any, together: int) -> None:
    """A short read says that there is nothing left, but not of the next record, which may be there."""

    def body(client: Any, server: Any) -> bytes:
        data = b""
        for _ in range(3):
            for _ in range(together):
                client.send(b"12")
            data += server.recv(1)
            while len(data) % (2 * together):
                data += server.recv(100)
        return data

    assert in_scheduler(body) == b"12" * 3 * together


def test_the_end_after_a_short_read(in_scheduler: Any, kind: Kind) -> None:
    def body(client: Any, server: Any) -> list[bytes]:
        client.send(b"last")
        found = [server.recv(100)]
        thread = Thread(target=lambda: found.append(server.recv(100)), kind=kind)
        thread.start()
        yield_now()
        # Not `close`: what is unread here, tickets of the session, would make it a reset.
        client.shutdown(socket.SHUT_WR)
        thread.join()
        return found

    assert in_scheduler(body) == [b"last", b""]


def test_a_thread_that_never_has_to_wait_gives_way(in_scheduler: Any) -> None:
    def body(client: Any, server: Any) -> bool:
        others: list[str] = []
        Thread(target=others.append, args=("ran",), daemon=True).start()
        client.sendall(b"x" * 200)
        for _ in range(200):
            server.recv(1)
        return others == ["ran"]

    assert in_scheduler(body) is True
