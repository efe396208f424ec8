"""The other side of a server under measurement, in a process of its own: the same for every library.

    python -m benchmarks.load MODE PORT CONNECTIONS ROUNDS [PROCESSOR ...]

Connects, sends a first message on each connection, waits for a line on standard input, then does what the mode says,
and closes everything. `echo`: in each round a message goes out on every connection before the answers are read, so the
client costs the machine as little as can be. `idle`: nothing, until standard input is closed.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import ssl
import sys
from pathlib import Path

MESSAGE = b"x" * 100
PEM = Path(__file__).resolve().parent / "localhost.pem"


def receive(sock: socket.socket) -> None:
    left = len(MESSAGE)
    while left:
        data = sock.recv(left)
        if not data:
            raise SystemExit("the server closed a connection")
        left -= len(data)


def connect(port: int, count: int, *, tls: bool) -> list[socket.socket]:
    """All at once: each connection is under way before any is waited for."""
    sockets = []
    poll = select.poll()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        poll.register(sock, select.POLLOUT)
        sockets.append(sock)
    waiting = {sock.fileno() for sock in sockets}
    while waiting:
        for fd, _events in poll.poll():
            poll.unregister(fd)
            waiting.discard(fd)
    lost = 0
    for sock in sockets:
        lost += sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if lost:
        raise SystemExit(f"{lost} of {count} connections were refused or lost")
    if tls:
        context = ssl.create_default_context(cafile=str(PEM))
        sockets = [context.wrap_socket(sock, server_hostname="localhost") for sock in sockets]
    return sockets


def main(mode: str, port: str, connections: str, rounds: str, *processors: str) -> None:
    if processors:
        os.sched_setaffinity(0, map(int, processors))
    count = int(connections)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = connect(int(port), count, tls=mode == "tls")
    for sock in sockets:
        sock.sendall(MESSAGE)
    for sock in sockets:
        receive(sock)
    print("connected", flush=True)
    sys.stdin.readline()
    if mode == "idle":
        sys.stdin.read()
    else:
        for _ in range(int(rounds)):
            for sock in sockets:
                sock.sendall(MESSAGE)
            for sock in sockets:
                receive(sock)
    for sock in sockets:
        sock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
