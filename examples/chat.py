"""A chat server: a thread reads each client, another one writes to it.

    python examples/chat.py --port 8008             # then, from as many terminals as you like: nc 127.0.0.1 8008
    python examples/chat.py --demo                  # three clients that talk, and what each of them has seen

A client that is slow to read stops only its own writer: what is for it waits in its queue, and when that is full the
client is shown out.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from greenthreads import Full, Lock, Queue, Thread, run_scheduler, socket

# Lines that wait for one client at the most.
MOST_WAITING = 1000


class Room:
    """Who is here, by name."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.clients: dict[str, Client] = {}

    def enter(self, client: Client) -> bool:
        with self.lock:
            if not client.name or client.name in self.clients:
                return False
            self.clients[client.name] = client
        self.say(f"* {client.name} has come")
        return True

    def leave(self, client: Client) -> None:
        with self.lock:
            self.clients.pop(client.name, None)
        self.say(f"* {client.name} has gone")

    def say(self, line: str) -> None:
        with self.lock:
            everybody = list(self.clients.values())
        for each in everybody:
            each.send(line)


class Client:
    """One connection: `read` runs in its thread, `write` in another."""

    def __init__(self, room: Room, sock: Any) -> None:
        self.room = room
        self.sock = sock
        self.name = ""
        self.lines = Queue(MOST_WAITING)

    def send(self, line: str | None) -> None:
        try:
            self.lines.put_nowait(line)
        except Full:
            self.sock.shutdown(socket.SHUT_RDWR)  # Its reader finds the end, and says goodbye.

    def read(self) -> None:
        writer = Thread(target=self.write, daemon=True)
        writer.start()
        try:
            with self.sock, self.sock.makefile("r", encoding="utf-8", errors="replace") as lines:
                self.send("who are you?")
                self.name = lines.readline().strip()
                if not self.room.enter(self):
                    self.send("that name is taken")
                else:
                    try:
                        for line in lines:
                            self.room.say(f"{self.name}: {line.strip()}")
                    finally:
                        self.room.leave(self)
                self.send(None)
                writer.join()
        except ConnectionError:
            pass

    def write(self) -> None:
        try:
            while (line := self.lines.get()) is not None:
                self.sock.sendall(f"{line}\n".encode())
        except OSError:
            pass


def serve(listener: Any) -> None:
    room = Room()
    while True:
        try:
            sock, _address = listener.accept()
        except OSError:
            return  # The listener was closed.
        Thread(target=Client(room, sock).read, daemon=True).start()


class Guest:
    """A client of the demonstration, who notes what it sees."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.file = self.sock.makefile("rw", encoding="utf-8")
        self.seen: list[str] = []
        self.wait_for("who are you?")
        self.say(name)
        self.wait_for(f"* {name} has come")

    def say(self, line: str) -> None:
        self.file.write(line + "\n")
        self.file.flush()

    def wait_for(self, line: str) -> None:
        while not self.seen or self.seen[-1] != line:
            self.seen.append(self.file.readline().rstrip("\n"))

    def go(self) -> None:
        self.file.close()
        self.sock.close()


def demonstrate(port: int) -> None:
    guests = [Guest(port, name) for name in ("Ann", "Bob", "Cid")]
    ann, bob, cid = guests
    ann.say("hello")
    for each in guests:
        each.wait_for("Ann: hello")
    bob.say("good morning")
    for each in guests:
        each.wait_for("Bob: good morning")
    cid.go()
    for each in (ann, bob):
        each.wait_for("* Cid has gone")
        each.go()
    for each in guests:
        print(f"{each.name} has seen: {' | '.join(each.seen[1:])}")


def port_number(text: str) -> int:
    """An argument that must be a port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="chat.py", description="A chat server.")
    parser.add_argument("--port", type=port_number, default=8008)
    parser.add_argument("--demo", action="store_true", help="three clients that talk, on a port of their own")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0 if options.demo else options.port)) as listener:
        if options.demo:
            Thread(target=serve, args=(listener,), daemon=True).start()
            demonstrate(listener.getsockname()[1])
        else:
            print(f"serving on port {options.port}", flush=True)
            serve(listener)


if __name__ == "__main__":
    try:
        run_scheduler(main)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"chat.py: {error}")
