"""An echo server and its load, in one program: a user thread for each end of each connection.

    python examples/echo_load.py
    python examples/echo_load.py --clients 1000 --messages 20
    python examples/echo_load.py --serve 8007          # only the server; --connect 8007 elsewhere, only the clients

Both sides are written as for kernel threads: accept, receive, send, one after the other.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from greenthreads import Queue, Thread, run_scheduler, socket


def echo(connection: Any) -> None:
    """Send back what comes in, until the other side is done."""
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def accept(listener: Any) -> None:
    """Serve each connection in a thread of its own."""
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return  # The listener was closed.
        Thread(target=echo, args=(connection,), daemon=True).start()


def client(port: int, messages: int, size: int, delays: Any) -> None:
    """Send messages, wait for each to come back, and note how long that took."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for number in range(messages):
            message = bytes([number % 256]) * size
            began = time.perf_counter()
            sock.sendall(message)
            received = b""
            while len(received) < size:
                received += sock.recv(size - len(received))
            delays.put(time.perf_counter() - began)
            if received != message:
                raise RuntimeError("the echo is wrong")


def load(port: int, clients: int, messages: int, size: int) -> None:
    """Run all clients at once, and say how it went."""
    delays = Queue()
    threads = [Thread(target=client, args=(port, messages, size, delays)) for _ in range(clients)]
    began = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    seconds = time.perf_counter() - began
    count = delays.qsize()
    found = sorted(delays.get() for _ in range(count))
    print(f"{clients} clients, {count} messages of {size} bytes came back in {seconds:.2f} s")
    print(f"{count / seconds:,.0f} a second; half of them within {found[count // 2] * 1e3:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="echo_load.py", description="An echo server and its load.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--size", type=int, default=100, help="bytes in a message")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only serve, until Ctrl-C")
    parser.add_argument("--connect", type=int, metavar="PORT", help="only the clients")
    options = parser.parse_args()
    if options.connect is not None:
        load(options.connect, options.clients, options.messages, options.size)
        return
    with socket.create_server(("127.0.0.1", options.serve or 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        if options.serve is not None:
            print(f"serving on port {port}", flush=True)
            accept(listener)
        Thread(target=accept, args=(listener,), daemon=True).start()
        load(port, options.clients, options.messages, options.size)


if __name__ == "__main__":
    try:
        run_scheduler(main)
    except KeyboardInterrupt:
        pass
