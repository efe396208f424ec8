"""The live view: what the threads of a running program do, redrawn in the terminal.

    run_scheduler --top SCRIPT      # runs the program as a child, and shows its output below
    run_scheduler --attach PID      # a program that listens: see `watch`

Keys: `s` shows and hides the stacks, `q` leaves. Drawn by rich, which the extra `greenthreads[top]` installs.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from greenthreads import watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

__all__ = ["attach", "run"]

# Seconds between two looks; more where an answer takes long, so that looking is a tenth of the time at most.
_INTERVAL = 0.5
# How long a child may take to begin to listen.
_PATIENCE = 20.0
# And how long one that has ended, to have all read that it has printed.
_LAST_WORDS = 2.0
_STATES = ("running", "ready", "parked", "new", "suspended")


def attach(process: int) -> int:
    """Watch the process with this number until it ends or the user leaves; return the exit status of the command."""
    if _rich_is_missing():
        return 1
    try:
        connection = _connect(process)
    except OSError as error:
        sys.stderr.write(f"run_scheduler: no process can be watched: {error}\n")
        return 1
    if connection is None and not _exists(process):
        sys.stderr.write(f"run_scheduler: there is no process {process}\n")
        return 1
    if connection is None:
        sys.stderr.write(
            f"run_scheduler: process {process} is not to be watched: start it with run_scheduler --watchable, "
            "or have it call greenthreads.watch.listen()\n"
        )
        return 1
    _View(connection, deque(maxlen=0)).show()
    return 0


def run(words: Sequence[str]) -> int:
    """Run `run_scheduler` with `words` as a child and watch it; return its exit status. Leaving the view ends it."""
    if _rich_is_missing():
        return 1
    try:
        watch.folder()
    except OSError as error:
        sys.stderr.write(f"run_scheduler: the program can't be watched: {error}\n")
        return 1
    output: deque[str] = deque(maxlen=1000)
    child = subprocess.Popen(
        [sys.executable, "-m", "greenthreads", "--watchable", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    reader = Thread(target=_read, args=(child.stdout, output), daemon=True)
    reader.start()
    connection = None
    try:
        connection = _connect(child.pid, child)
        if connection is not None:
            _View(connection, output).show()
    except KeyboardInterrupt:
        pass  # Before there was a view to leave.
    finally:
        if child.poll() is None:
            child.terminate()
        status = child.wait()
        if connection is not None:
            # A child that was terminated has left it behind.
            with suppress(OSError):
                os.unlink(watch.path_of(child.pid))
        # What it has left running in the background may print for ever.
        reader.join(_LAST_WORDS)
        if child.stdout is not None and not reader.is_alive():
            child.stdout.close()
    sys.stdout.write("".join(output))
    return status if status >= 0 else 128 - status


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return process > 0


def _rich_is_missing() -> bool:
    try:
        import rich.live  # noqa: F401
    except ImportError:
        sys.stderr.write("run_scheduler: the live view needs rich: pip install 'greenthreads[top]'\n")
        return True
    return False


def _read(stream: Any, output: deque[str]) -> None:
    for line in stream:
        output.append(line)


def _connect(process: int, child: subprocess.Popen[str] | None = None) -> socket.socket | None:
    """A connection to the process; None if it does not listen. A child is given time to begin. OSError as
    `watch.folder`.
    """
    end = time.monotonic() + _PATIENCE
    path = watch.path_of(process)
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
        if child is None or child.poll() is not None or time.monotonic() > end:
            return None
        time.sleep(0.02)


class _View:
    """The picture, and what it is made of."""

    def __init__(self, connection: socket.socket, output: deque[str]) -> None:
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")
        self._output = output
        self._stacks = False
        # The switches, and when they were counted, of the last look.
        self._before: tuple[float, int] | None = None
        self._rate = 0.0

    def show(self, console: Console | None = None) -> None:
        """Draw until the program ends or the user leaves."""
        from rich.live import Live

        live = Live(console=console, screen=True, auto_refresh=False)
        # Ctrl-C leaves as well.
        with suppress(KeyboardInterrupt), self._connection, _keys() as keys, live:
            while True:
                began = time.monotonic()
                try:
                    picture = self.picture(live.console.height)
                except (OSError, ValueError):
                    return  # The program has ended.
                live.update(picture, refresh=True)
                took = time.monotonic() - began
                key = keys(max(_INTERVAL, 9 * took))
                if key == "q":
                    return
                if key == "s":
                    self._stacks = not self._stacks

    def _ask(self, what: str) -> Any:
        self._connection.sendall(what.encode() + b"\n")
        return json.loads(self._lines.readline())

    def picture(self, height: int) -> RenderableType:
        """The picture of now, for a terminal of so many lines."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        figures = self._ask("figures")
        parts: list[RenderableType] = [self._headline(figures), self._tables(figures)]
        left = max(4, height - 22)
        if self._stacks:
            lines = self._ask("stacks")["text"].splitlines()
            shown = "\n".join(lines[: left + 6])
            parts.append(Panel(Text(shown, overflow="ellipsis", no_wrap=True), title="stacks", title_align="left"))
        elif self._output:
            text = "".join(list(self._output)[-left:]).rstrip("\n")
            parts.append(Panel(Text(text, overflow="ellipsis", no_wrap=True), title="output", title_align="left"))
        parts.append(Text("s: stacks   q: leave", style="dim"))
        return Group(*parts)

    def _headline(self, figures: dict[str, Any]) -> RenderableType:
        from rich.text import Text

        now = time.monotonic()
        if self._before is not None:
            since, switches = self._before
            self._rate = (figures["switches"] - switches) / max(now - since, 1e-9)
        self._before = (now, figures["switches"])
        return Text.assemble(
            ("greenthreads ", "bold"),
            f"process {figures['process']}   listening for {figures['seconds']:.0f} s   ",
            (f"{self._rate:,.0f} switches/s", "bold green"),
        )

    def _tables(self, figures: dict[str, Any]) -> RenderableType:
        from rich.columns import Columns
        from rich.text import Text

        threads = _table("threads", "user", "")
        for state in _STATES:
            threads.add_row(state, f"{figures['user'].get(state, 0):,}")
        threads.add_row("in all", f"{sum(figures['user'].values()):,}", style="bold")
        threads.add_row("kernel threads", f"{figures['kernel']:,}")
        threads.add_row("schedulers", f"{figures['schedulers']:,}")
        # As Text: a plain string could be markup, or break as such.
        runs = _table("longest runs", "thread", "ms")
        for seconds, name in figures["runs"]:
            runs.add_row(Text(name), f"{seconds * 1e3:,.2f}")
        waits = _table("waits", "for", "threads")
        for what, count in figures["waits"]:
            waits.add_row(Text(what), f"{count:,}")
        if figures["others"]:
            waits.add_row(f"{figures['others']:,} other things", "", style="dim")
        return Columns([threads, runs, waits], padding=(0, 2))


def _table(title: str, first: str, second: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold cyan", min_width=24)
    table.add_column(first, max_width=44, no_wrap=True, overflow="ellipsis")
    table.add_column(second, justify="right")
    return table


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for a key for so many seconds. Keys come at once, and are not shown, meanwhile."""
    if not sys.stdin.isatty():

        def sleep(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield sleep
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def key(seconds: float) -> str:
        ready, _write, _error = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("latin-1") if ready else ""

    try:
        yield key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
