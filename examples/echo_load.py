"""An echo server and its load, in one program: a user thread for each end of each connection.

    python examples/echo_load.py
    python examples/echo_load.py --clients 1000 --messages 20
    python examples/echo_load.py --serve 8007          # only the server; --connect 8007 elsewhere, only the clients

Both sides are written as for kernel threads: accept, receive, send, one after the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from greenthreads import Queue, Thread, run_scheduler, socket


def echo(connection: Any) -> None:
    """Send back what comes in, until the other side is done."""
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except ConnectionError:
            pass  # It went without a word.


def accept(listener: Any) -> None:
    """Serve each connection in a thread of its own."""
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return  # The listener was closed.
        Thread(target=echo, args=(connection,), daemon=True).start()


def client(port: int, messages: int, size: int, delays: Any) -> None:
    """Send messages, wait for each to come back, and note how long that took, or why it failed."""
    try:
        talk(port, messages, size, delays)
    except OSError as error:
        delays.put(error)


def talk(port: int, messages: int, size: int, delays: Any) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for number in range(messages):
            message = bytes([number % 256]) * size
            began = time.perf_counter()
            sock.sendall(message)
            received = b""
            while len(received) < size:
                data = sock.recv(size - len(received))
                if not data:
                    raise ConnectionError("the server has gone")
                received += data
            delays.put(time.perf_counter() - began)
            if received != message:
                raise ConnectionError("the echo is wrong")


def load(port: int, clients: int, messages: int, size: int) -> int:
    """Run all clients at once, and say how it went; 0 if every message came back, else 1."""
    delays = Queue()
    # Daemons, so that Ctrl-C in the main thread ends the program at once.
    threads = [Thread(target=client, args=(port, messages, size, delays), daemon=True) for _ in range(clients)]
    began = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    seconds = time.perf_counter() - began
    found = [delays.get() for _ in range(delays.qsize())]
    if failed := [each for each in found if isinstance(each, OSError)]:
        print(f"{len(failed)} of {clients} clients failed: {failed[0]}", file=sys.stderr)
        return 1
    found.sort()
    count = len(found)
    print(f"{clients} clients, {count} messages of {size} bytes came back in {seconds:.2f} s")
    print(f"{count / seconds:,.0f} a second; half of them within {found[count // 2] * 1e3:.2f} ms")
    return 0


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def port_number(text: str) -> int:
    """An argument that must be a port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {text!r}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="echo_load.py", description="An echo server and its load.")
    parser.add_argument("--clients", type=positive, default=200)
    parser.add_argument("--messages", type=positive, default=20)
    parser.add_argument("--size", type=positive, default=100, help="bytes in a message")
    parser.add_argument("--serve", type=port_number, metavar="PORT", help="only serve, until Ctrl-C")
    parser.add_argument("--connect", type=port_number, metavar="PORT", help="only the clients")
    options = parser.parse_args()
    if options.connect is not None:
        return load(options.connect, options.clients, options.messages, options.size)
    with socket.create_server(("127.0.0.1", options.serve or 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        if options.serve is not None:
            print(f"serving on port {port}", flush=True)
            accept(listener)
        Thread(target=accept, args=(listener,), daemon=True).start()
        return load(port, options.clients, options.messages, options.size)


if __name__ == "__main__":
    try:
        sys.exit(run_scheduler(main))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"echo_load.py: {error}")
