"""Serving: an echo server under load, with and without TLS, and one that holds idle connections.

The server is measured; its clients are one process of plain sockets, the same for all (`load.py`), on another
processor where there is one. The stopwatch runs from the moment when every connection has had its first answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.measure import Sample, Size, Stopwatch, resident_bytes
from benchmarks.scenario import Contestant, Figure, Scenario, cpu_and_wall

__all__ = ["SCENARIOS"]

ROOT = Path(__file__).resolve().parent.parent
PEM = ROOT / "benchmarks" / "localhost.pem"
# For how long idle connections are watched.
IDLE_SECONDS = 2.0


class Load:
    """The client's process, and what has become of its connections."""

    def __init__(self, mode: str, size: Size, port: int) -> None:
        # The server on one processor, the client on the others.
        self.processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        command = [sys.executable, "-m", "benchmarks.load", mode, str(port), str(size.threads), str(size.rounds)]
        if len(self.processors) > 1:
            command += map(str, self.processors[1:])
            os.sched_setaffinity(0, self.processors[:1])
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.mode = mode
        self.size = size
        self.watch = Stopwatch()
        self.begun = 0
        self.ended = 0
        self.figures: dict[str, float] = {}
        self._before = resident_bytes()

    def begin(self) -> None:
        """A connection has had its first answer. After the last one the load begins."""
        self.begun += 1
        if self.begun < self.size.threads:
            return
        self.figures["bytes"] = max(1.0, (resident_bytes() - self._before) / self.size.threads)
        self.watch.start()
        os.write(self.process.stdin.fileno(), b"go\n")  # type: ignore[union-attr]

    def end(self) -> None:
        """A connection has come to its end."""
        self.ended += 1
        if self.ended == self.size.threads:
            self.watch.stop()

    def held(self, cpu: float) -> None:
        """The connections have been idle for a while, at a price of `cpu` seconds: let them go."""
        self.figures["idle"] = max(cpu / idle_seconds(self.size), 1e-9)
        self.process.stdin.close()  # type: ignore[union-attr]

    def sample(self) -> Sample:
        self.process.stdin.close()  # type: ignore[union-attr]
        status = self.process.wait()
        if self.processors:
            os.sched_setaffinity(0, self.processors)
        if status != 0:
            raise RuntimeError("the client failed: see above")
        self.process.stdout.close()  # type: ignore[union-attr]
        operations = self.size.threads * (self.size.rounds if self.mode != "idle" else 1)
        return self.watch.sample(self.begun, operations, **self.figures)


def idle_seconds(size: Size) -> float:
    return IDLE_SECONDS if size.threads > 100 else 0.05


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=4096)


def raise_limit() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- Threads that block ----------------------------------------------------------------------------------------------

# (module of sockets, module of TLS, run, spawn, sleep)
Library = tuple[Any, Any, Callable[[Callable[[], None]], Any], Callable[..., Any], Callable[[float], Any]]


def greenthreads() -> Library:
    library = import_module("greenthreads")

    def spawn(target: Callable[..., Any], *args: Any) -> None:
        library.Thread(target=target, args=args).start()

    return (
        import_module("greenthreads.socket"),
        import_module("greenthreads.ssl"),
        library.run_scheduler,
        spawn,
        library.sleep,
    )


def gevent() -> Library:
    library = import_module("gevent")
    return (
        import_module("gevent.socket"),
        import_module("gevent.ssl"),
        lambda main: library.spawn(main).join(),
        library.spawn,
        library.sleep,
    )


def blocking(load_library: Callable[[], Library], mode: str) -> Callable[[Size], Sample]:
    def measure(size: Size) -> Sample:
        raise_limit()
        sockets, tls, run, spawn, rest = load_library()
        plain = listening()
        load = Load(mode, size, plain.getsockname()[1])
        listener = sockets.socket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        if mode == "tls":
            context = tls.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(PEM)

        def handle(connection: Any) -> None:
            if mode == "tls":
                connection = context.wrap_socket(connection, server_side=True)
            connection.sendall(connection.recv(4096))
            load.begin()
            while data := connection.recv(4096):
                connection.sendall(data)
            connection.close()
            load.end()

        def main() -> None:
            for _ in range(size.threads):
                connection, _address = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                spawn(handle, connection)
            listener.close()
            if mode == "idle":
                while load.begun < size.threads:
                    rest(0.01)
                before = process_time()
                rest(idle_seconds(size))
                load.held(process_time() - before)
            while load.ended < size.threads:
                rest(0.01)

        run(main)
        return load.sample()

    return measure


# ---- Tasks that await ------------------------------------------------------------------------------------------------


def awaiting(name: str, mode: str) -> Callable[[Size], Sample]:
    def measure(size: Size) -> Sample:
        raise_limit()
        run = import_module(name).run
        plain = listening()
        load = Load(mode, size, plain.getsockname()[1])
        context = None
        if mode == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(PEM)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(4096))
            await writer.drain()
            load.begin()
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
            writer.close()
            load.end()

        async def main() -> None:
            server = await asyncio.start_server(handle, sock=plain, backlog=4096, ssl=context)
            if mode == "idle":
                while load.begun < size.threads:
                    await asyncio.sleep(0.01)
                before = process_time()
                await asyncio.sleep(idle_seconds(size))
                load.held(process_time() - before)
            while load.ended < size.threads:
                await asyncio.sleep(0.01)
            server.close()

        run(main())
        return load.sample()

    return measure


def contestants(mode: str) -> tuple[Contestant, ...]:
    return (
        Contestant("greenthreads", blocking(greenthreads, mode)),
        Contestant("gevent", blocking(gevent, mode)),
        Contestant("asyncio", awaiting("asyncio", mode)),
        Contestant("uvloop", awaiting("uvloop", mode)),
    )


def echo(connections: int, rounds: int) -> Scenario:
    return Scenario(
        name=f"echo-{connections}",
        title="TCP echo, 100 bytes, {threads:,} connections, per message",
        size=Size(connections, rounds),
        quick=Size(connections, max(1, rounds // 10)),
        figures=cpu_and_wall("µs"),
        contestants=contestants("echo"),
    )


SCENARIOS = (
    echo(10, 5_000),
    echo(100, 500),
    echo(2_000, 25),
    Scenario(
        name="echo-tls",
        title="TLS echo, 100 bytes, {threads:,} connections, per message",
        size=Size(100, 200),
        quick=Size(100, 20),
        figures=cpu_and_wall("µs"),
        contestants=contestants("tls"),
    ),
    Scenario(
        name="idle-10k",
        title="{threads:,} idle connections",
        size=Size(10_000),
        quick=Size(1_000),
        figures=(
            Figure("bytes", "bytes each", lambda sample: sample.figures["bytes"]),
            Figure("idle", "CPU s a second", lambda sample: sample.figures["idle"]),
        ),
        contestants=contestants("idle"),
    ),
)
