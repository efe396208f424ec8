"""The live view, in a real terminal: a pseudo-terminal whose screen a terminal emulator keeps."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import greenthreads
from greenthreads import Deadlock, Event, Lock, Thread, run_scheduler, watch, yield_now
from scheduler import observers

pyte = pytest.importorskip("pyte", reason="pyte, the terminal emulator, is not installed")
pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(greenthreads.__file__).parent.parent), "TERM": "xterm-256color"}
PATIENCE = 45


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sockets of these tests, and of the programs that they start, are in a folder of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setitem(ENVIRONMENT, "XDG_RUNTIME_DIR", str(tmp_path))
    return str(tmp_path)


class Terminal:
    """A command in a terminal of 40 lines and 120 columns."""

    def __init__(self, *words: str) -> None:
        self.screen = pyte.Screen(120, 40)
        self._stream = pyte.ByteStream(self.screen)
        self._descriptor, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "greenthreads", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**ENVIRONMENT, "LINES": "40", "COLUMNS": "120"},
            start_new_session=True,
        )
        os.close(slave)

    def read_until(self, *texts: str) -> str:
        """Read until the screen shows all of `texts`; return what it shows."""
        end = time.monotonic() + PATIENCE
        while not all(text in self.shown() for text in texts):
            assert time.monotonic() < end, f"{texts} not in\n{self.shown()}"
            self._read_some()
        return self.shown()

    def _read_some(self) -> bool:
        ready, _write, _error = select.select([self._descriptor], [], [], 0.2)
        if not ready:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            return False
        self._stream.feed(data)
        return bool(data)

    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, key: str) -> None:
        os.write(self._descriptor, key.encode())

    def end(self) -> int:
        """Read to the end; return the exit status."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end
            self._read_some()
        while self._read_some() and select.select([self._descriptor], [], [], 0)[0]:
            pass
        os.close(self._descriptor)
        return self.process.wait()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "greenthreads", *words],
        env=ENVIRONMENT,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


PROGRAM = """
import os, sys, threading, time
lock = threading.Lock()
lock.acquire()
event = threading.Event()
def hold():
    with lock: pass
def turn():
    while not event.is_set(): time.sleep(0)
for number in range(3): threading.Thread(target=hold, name=f"holder {number}").start()
for number in range(20): threading.Thread(target=event.wait, name=f"waiter {number}").start()
threading.Thread(target=turn, name="turner").start()
print("begins", flush=True)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
event.set()
lock.release()
print("ends", flush=True)
sys.exit(3)
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
def stop(tmp_path: Path) -> Path:
    """The program ends when this file is there."""
    return tmp_path / "stop"


@pytest.fixture
def watched(program: str, stop: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that can be watched."""
    process = subprocess.Popen(
        [sys.executable, "-m", "greenthreads", "--watchable", program, str(stop)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    yield process
    stop.touch()
    assert process.wait(PATIENCE) == 3
    process.stdout.close()


def test_attaching_shows_threads_waits_and_stacks(watched: subprocess.Popen[str]) -> None:
    terminal = Terminal("--attach", str(watched.pid))
    shown = terminal.read_until("switches/s", "Event E1", "Lock L1, held by 'MainThread'", "longest runs")
    rows = [line.split() for line in shown.splitlines()]
    assert any("parked" in row for row in rows)
    assert f"process {watched.pid}" in shown
    terminal.press("s")
    shown = terminal.read_until("stacks", "20 user threads 'waiter 0'")
    assert "in hold" in shown
    terminal.press("q")
    assert terminal.end() == 0
    assert watched.poll() is None


def test_the_view_ends_with_the_program(program: str, stop: Path) -> None:
    terminal = Terminal("--top", program, str(stop))
    terminal.read_until("switches/s", "Event E1", "turner", "output", "begins")
    stop.touch()
    assert terminal.end() == 3
    # What it has printed is there when the view has gone.
    assert "begins" in terminal.shown()
    assert "ends" in terminal.shown()


def test_leaving_the_view_ends_a_child() -> None:
    terminal = Terminal("--top", "-c", "import threading; threading.Event().wait(60)")
    terminal.read_until("switches/s")
    terminal.press("q")
    assert terminal.end() == 128 + signal.SIGTERM


def test_ctrl_c_leaves_it_too_and_the_program_goes_on(watched: subprocess.Popen[str]) -> None:
    terminal = Terminal("--attach", str(watched.pid))
    terminal.read_until("switches/s")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown()
    assert watched.poll() is None


def test_a_name_may_look_like_markup() -> None:
    code = "import threading; threading.Thread(target=threading.Event().wait, args=(60,), name='[/b] [red]').start()"
    terminal = Terminal("--top", "-c", code)
    terminal.read_until("the end of '[/b] [red]'")
    terminal.press("q")
    assert terminal.end() == 128 + signal.SIGTERM


def test_a_child_that_is_ended_leaves_no_socket_behind(own_folder: str) -> None:
    terminal = Terminal("--top", "-c", "import threading; threading.Event().wait(60)")
    terminal.read_until("switches/s")
    folder = Path(watch.folder())
    assert len(list(folder.iterdir())) == 1
    terminal.press("q")
    terminal.end()
    assert list(folder.iterdir()) == []


def test_what_a_child_leaves_running_does_not_keep_the_view(monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    from greenthreads import top

    before = threading.active_count()
    # Not imported into the process of the tests: what is there before `patch` it warns of.
    monkeypatch.setattr(top, "_rich_is_missing", lambda: False)
    monkeypatch.setattr(top, "_LAST_WORDS", 0.01)
    monkeypatch.setattr(top, "_connect", lambda _process, _child: None)
    started: list[subprocess.Popen[str]] = []
    read, write = os.pipe()
    popen = subprocess.Popen

    def start(_words: object, **_options: object) -> subprocess.Popen[str]:
        started.append(popen([sys.executable, "-c", "pass"], encoding="utf-8"))
        started[0].wait()
        # What it has started has the other end, and does not end.
        started[0].stdout = os.fdopen(read, encoding="utf-8")
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    assert top.run(["-c", "pass"]) == 0
    os.close(write)
    until(lambda: threading.active_count() == before)
    assert started[0].stdout is not None
    started[0].stdout.close()


def test_a_program_that_ends_at_once_still_shows_what_it_printed() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "greenthreads", "--top", "-c", "print('short')"],
        env=ENVIRONMENT,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0
    assert "short\n" in result.stdout


def test_a_process_that_does_not_listen_is_told_how_to() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "greenthreads", "--attach", str(os.getpid())],
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1
    assert f"process {os.getpid()} is not to be watched: start it with run_scheduler --watchable" in result.stderr


@pytest.mark.parametrize("process", ["0", "-3", "9" * 20])
def test_a_process_that_is_not_there_is_said_not_to_be(process: str) -> None:
    result = command("--attach", process)
    assert (result.returncode, result.stderr) == (1, f"run_scheduler: there is no process {process}\n")


def test_nor_one_that_was_killed(own_folder: str) -> None:
    """Its socket is there still."""
    code = "from greenthreads import watch; import os; watch.listen(); os.write(1, b'%d' % os.getpid()); os.abort()"
    killed = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    process = killed.stdout.strip()
    assert os.path.exists(watch.path_of(int(process)))
    result = command("--attach", process)
    assert (result.returncode, result.stderr) == (1, f"run_scheduler: there is no process {process}\n")


@pytest.mark.parametrize("words", [["--attach", "1"], ["--watchable", "-c", "print(1)"], ["--top", "-c", "print(1)"]])
def test_a_folder_that_others_may_enter_is_said_to_be_one(words: list[str]) -> None:
    folder = watch.folder()
    os.chmod(folder, 0o777)
    result = command(*words)
    assert result.returncode == 1
    told = result.stderr + result.stdout
    assert f"{folder} must be a folder of yours that nobody else may enter" in told
    assert "Traceback" not in told


def test_a_program_that_was_started_without_the_variable_is_found(
    listening: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process = os.getpid()
    monkeypatch.setattr(watch.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "other"))
    # As another process sees it.
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert watch.path_of(process) == listening
    assert watch.path_of(process + 1) == str(tmp_path / "other" / f"greenthreads-{os.getuid()}" / f"{process + 1}.sock")
    monkeypatch.undo()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_does_not_listen_in_its_parents_place(listening: str) -> None:
    assert watch._listener is not None
    descriptor = watch._listener._socket.fileno()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_rich_a_plain_message_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError\n")
    path = f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    result = subprocess.run(
        [sys.executable, "-m", "greenthreads", "--top", "-c", "pass"],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "run_scheduler: the live view needs rich: pip install 'greenthreads[top]'\n"


# ---- The other side, in this process ---------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[str]:
    path = watch.listen()
    assert watch.listen() == path
    yield path
    watch.close()
    watch.close()
    assert not os.path.exists(path)


def ask(path: str, *questions: str) -> list[Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw", encoding="utf-8") as lines:
            answers = []
            for question in questions:
                lines.write(question + "\n")
                lines.flush()
                answers.append(json.loads(lines.readline()))
            return answers


def test_only_the_user_can_reach_the_socket(listening: str) -> None:
    folder = os.path.dirname(listening)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert os.stat(folder).st_uid == os.getuid()
    os.chmod(folder, 0o755)
    with pytest.raises(PermissionError, match="must be a folder of yours that nobody else may enter"):
        watch.path_of(1)
    os.chmod(folder, 0o700)


def test_another_user_is_not_answered(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: -2)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(listening)
        try:
            connection.sendall(b"figures\n")
            answer = connection.recv(10)
        except OSError:
            answer = b""
    assert answer == b""
    monkeypatch.undo()


def test_figures_tell_states_switches_runs_and_waits(listening: str) -> None:
    answers: list[Any] = []

    def main() -> None:
        lock, event = Lock(), Event()
        lock.acquire()

        def hold() -> None:
            with lock:
                pass

        for name in ("a", "b"):
            Thread(target=hold, name=name).start()
        Thread(target=event.wait).start()
        yield_now()
        questions = ("figures", "figures", "stacks", "?")
        asker = Thread(target=lambda: answers.extend(ask(listening, *questions)), kind="kernel")
        asker.start()
        while asker.is_alive():
            yield_now()
        lock.release()
        event.set()

    run_scheduler(main)
    first, second, stacks, wrong = answers
    assert first["user"]["parked"] == 3
    assert sorted(first["waits"]) == [["Event E1", 1], ["Lock L1, held by 'MainThread'", 2]]
    assert (first["kernel"], first["schedulers"], first["process"]) == (1, 1, os.getpid())
    assert second["switches"] >= first["switches"]
    assert "user thread" in stacks["text"]
    assert wrong == {"error": "ask for figures or stacks"}


def test_switches_are_counted_only_while_somebody_looks(
    listening: str, until: Callable[[Callable[[], object]], None]
) -> None:
    def main() -> None:
        assert observers.active == []
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(listening)
            until(lambda: len(observers.active) == 1)
        until(lambda: observers.active == [])

    run_scheduler(main)


def test_listening_hides_no_deadlock(listening: str) -> None:
    with pytest.raises(Deadlock):
        run_scheduler(Event().wait)
