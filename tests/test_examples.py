"""Every example is run as a program, the way its own docstring says, and its output is read."""

import importlib.util
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STDLIB = Path(sysconfig.get_path("stdlib"))

pytestmark = pytest.mark.timeout(300)

# What rich would otherwise take from the terminal in which the tests are run.
TERMINAL_SETTINGS = {"COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


def run(program: str, *arguments: object, cwd: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run an example in a process of its own; `code` runs before it in the same process."""
    environment = {k: v for k, v in os.environ.items() if k not in TERMINAL_SETTINGS}
    environment["PYTHONUTF8"] = "1"
    script = str(EXAMPLES / program)
    command = [sys.executable]
    if code is None:
        command.append(script)
    else:
        command += ["-c", f"{code}; import runpy; runpy.run_path({script!r}, run_name='__main__')"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )


def output_of(program: str, *arguments: object, cwd: Path) -> str:
    """What an example prints when all goes well: exit 0, and not a word on standard error."""
    result = run(program, *arguments, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def error_of(program: str, *arguments: object, cwd: Path, exit_code: int = 2) -> str:
    """What an example says on standard error when it refuses; nothing on standard output."""
    result = run(program, *arguments, cwd=cwd)
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def load(program: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example, so that a test can break one part of it."""
    spec = importlib.util.spec_from_file_location(program, EXAMPLES / f"{program}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, program, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("program", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_says_how_to_use_it(program: str, tmp_path: Path) -> None:
    assert output_of(program, "--help", cwd=tmp_path).startswith(f"usage: {program}")


@contextmanager
def running(program: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """An example that goes on while the test does something to it."""
    command = [sys.executable, "-u", str(EXAMPLES / program), *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        ("round_robin.py", ["--steps", 10**9], "started"),
        ("same_code_two_kinds.py", ["--rounds", 10**9], "user"),
        ("hundred_thousand.py", [20_000], "all started"),
        ("find_the_bug.py", [], "pool"),
        ("echo_load.py", ["--serve", 0], "serving"),
        ("chat.py", ["--port", 0], "serving"),
    ],
)
def test_ctrl_c_ends_each_with_a_word(program: str, arguments: list[object], line: str) -> None:
    with running(program, *arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while line not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="it shows who has connected")
def test_ctrl_c_ends_the_load_while_all_clients_are_at_work(tmp_path: Path) -> None:
    """Not after the last of a million messages."""
    with running("echo_load.py", "--serve", 0, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split()[-1]
        with running("echo_load.py", "--connect", port, "--messages", 10**6) as load:
            while not re.search(rf":{int(port):04X} 01 ", Path("/proc/net/tcp").read_text()):
                pass  # until one has connected
            load.send_signal(signal.SIGINT)
            _, said = load.communicate(timeout=60)

    assert (load.returncode, said) == (130, "interrupted\n")


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no SIGPIPE")
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("mixed_index.py", [EXAMPLES]),
        ("round_robin.py", []),
        ("same_code_two_kinds.py", ["--rounds", 1]),
        ("hundred_thousand.py", [10]),
        ("find_the_bug.py", ["--report", "hits"]),
    ],
)
def test_a_reader_that_has_seen_enough_ends_it_quietly(program: str, arguments: list[object]) -> None:
    """As `| head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    with running(program, *arguments, stdout=writer) as process:
        os.close(writer)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (-signal.SIGPIPE, "")


# --- mixed_index ---------------------------------------------------------------------------------

SHOP = '''\
"""A shop."""


class Shop:
    def open(self):
        return "open"  # Open!

    async def close(self):
        def lock_up():
            pass
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small tree with each kind of file that matters, and known totals."""
    folder = tmp_path / "sources"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    (folder / "deep" / "latin.py").write_bytes("# coding: latin-1\n# né\n".encode("latin-1"))
    (folder / "deep" / "er" / "empty.py").write_text("")
    (folder / "windows.py").write_bytes(b"def open(): pass\r\nx = 1")  # the last line has no end
    (folder / "wrong.py").write_text("def open(:\n")
    (folder / "null.py").write_bytes(b"x = '\0'\n")
    (folder / "bytes.py").write_bytes(b"# \xff\xfe open\n")
    (folder / "codec.py").write_bytes(b"# coding: no-such-codec\n")
    (folder / "not_text.py").write_bytes(b"# coding: hex\n")
    # None of these is indexed:
    (folder / "notes.txt").write_text("def open(): pass\n")
    (folder / "folder.py").mkdir()
    for skipped in ("site-packages", "__pycache__"):
        (folder / "deep" / skipped).mkdir()
        (folder / "deep" / skipped / "other.py").write_text("def open(): pass\n")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.py")
    return folder


# A null byte is an error of the decoding since Python 3.14, before that one of the parsing.
NULL_IS_READ = sys.version_info < (3, 14)

SOURCES_TOTALS = {
    "files": 9,
    "unreadable": 3 if NULL_IS_READ else 4,
    "unparsable": 2 if NULL_IS_READ else 1,
    "lines": 10 + 2 + 0 + 2 + 1 + NULL_IS_READ,
    "words": 17 + 3 + 0 + 3 + 2 + 0,
    "distinct_words": 11 + 3,
    "definitions": 5,
}


def test_index_of_known_files(sources: Path, tmp_path: Path) -> None:
    report = json.loads(output_of("mixed_index.py", "sources", "--json", "--check", cwd=tmp_path))

    assert report.pop("seconds") >= 0
    assert report.pop("sequential_seconds") >= 0
    assert report == {
        "folder": "sources",
        **SOURCES_TOTALS,
        "most_common_words": [
            ["def", 5],
            ["open", 5],
            ["pass", 2],
            ["self", 2],
            ["shop", 2],
            ["async", 1],
            ["class", 1],
            ["close", 1],
            ["coding", 1],
            ["latin", 1],
        ],
        "most_common_definitions": [
            ["open", 2],
            ["Shop", 1],
            ["close", 1],
            ["lock_up", 1],
        ],
        "threads": {"kernel": 4, "user": 18},
    }


def test_index_shows_tables(sources: Path, tmp_path: Path) -> None:
    output = output_of("mixed_index.py", sources, cwd=tmp_path)

    rows = {
        cells[0].strip(): cells[1].strip()
        for line in output.splitlines()
        if len(cells := line.strip("│").split("│")) >= 2
    }
    for name, count in SOURCES_TOTALS.items():
        assert rows[name.replace("_", " ")] == str(count)
    assert rows["kernel threads"] == "4"
    assert rows["user threads"] == "18"
    assert re.fullmatch(r"\d+\.\d\d s", rows["wall time"])
    assert "\x1b" not in output  # no colours in a file


def test_index_finds_a_definition(sources: Path, tmp_path: Path) -> None:
    found = output_of("mixed_index.py", "sources", "--find", "open", cwd=tmp_path)

    places = [f"{Path('sources', 'shop.py')}:5", f"{Path('sources', 'windows.py')}:1"]
    assert found.splitlines() == places
    assert error_of("mixed_index.py", "sources", "--find", "no", cwd=tmp_path, exit_code=1) == ""


@pytest.mark.parametrize("package", ["json", "email", "encodings"])
def test_index_of_real_files(package: str, tmp_path: Path) -> None:
    folder = STDLIB / package
    report = json.loads(output_of("mixed_index.py", folder, "--json", "--check", cwd=tmp_path))

    assert report["files"] == len(list(folder.rglob("*.py")))
    assert report["threads"] == {"kernel": 4, "user": 2 * report["files"]}


@pytest.mark.parametrize("readers", [1, 16])
def test_index_is_the_same_however_narrow_the_queues(readers: int, tmp_path: Path) -> None:
    options = ["--readers", readers, "--in-flight", 1, "--json", "--check"]
    report = json.loads(output_of("mixed_index.py", STDLIB / "json", *options, cwd=tmp_path))

    assert report["threads"]["kernel"] == readers


def test_index_holds_few_files_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load("mixed_index", monkeypatch)
    paths = program.python_files(STDLIB / "encodings")
    indexer = program.MixedIndexer(paths, readers=2, in_flight=4)
    begun = itertools.count(1)
    held = []

    def read_source(path: Path) -> Any:
        number = next(begun)
        held.append(number - min(indexer.done["words"], indexer.done["definitions"]))
        return honest(path)

    honest = program.read_source
    monkeypatch.setattr(program, "read_source", read_source)
    program.run_scheduler(indexer.run)

    assert len(held) == len(paths) > 100
    assert max(held) <= 2 + 4  # one in the hands of each reader, the others with user threads


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: setattr(index, "lines", 0), f"  lines: {SOURCES_TOTALS['lines']} with threads, 0 without"),
        (
            lambda index: index.words.update({"open": -1, "def": 1}),
            "  the totals are the same, but of different words or definitions",
        ),
    ],
)
def test_check_fails_when_the_passes_differ(
    damage: Callable[[Any], object],
    message: str,
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load("mixed_index", monkeypatch)
    honest = program.index_sequentially

    def damaged(paths: list[Path]) -> Any:
        index = honest(paths)
        damage(index)
        return index

    monkeypatch.setattr(program, "index_sequentially", damaged)

    assert program.main([str(sources), "--check"]) == 1
    assert capsys.readouterr() == ("", f"the two passes differ:\n{message}\n")


@contextmanager
def on_a_terminal(*command: object) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """Run `command` with a pseudo-terminal as standard error; yields what appears there."""
    pty = pytest.importorskip("pty", reason="a pseudo-terminal stands in for the terminal")
    screen, standard_error = pty.openpty()

    def drawn() -> Iterator[bytes]:
        try:
            while portion := os.read(screen, 65536):
                yield portion
        except OSError:  # how Linux says that the program has closed its end
            pass

    with subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=standard_error
    ) as process:
        os.close(standard_error)
        try:
            yield process, drawn()
        finally:
            process.kill()
            os.close(screen)


def test_index_draws_progress_on_a_terminal(sources: Path) -> None:
    command = [EXAMPLES / "mixed_index.py", sources, "--json"]
    with on_a_terminal(*command) as (process, drawn):
        screen = b"".join(drawn)
        report, _ = process.communicate()

    assert process.returncode == 0
    assert b"kernel threads read" in screen
    assert b"9/9" in screen
    assert json.loads(report)["files"] == 9  # standard output is JSON and nothing else


def test_ctrl_c_ends_the_index_at_once() -> None:
    with on_a_terminal(EXAMPLES / "mixed_index.py", STDLIB) as (process, drawn):
        screen = b""
        while not re.search(rb"0:00:0[1-9]", screen):  # a second later, all are at work
            screen += next(drawn)
        process.send_signal(signal.SIGINT)
        screen += b"".join(drawn)
        output, _ = process.communicate()

    assert (process.returncode, output) == (130, b"")
    assert screen.rstrip().endswith(b"interrupted")
    assert b"Traceback" not in screen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "no such folder: no-such-folder"),
        (["sources/shop.py"], "not a folder: sources/shop.py"),
        (["nothing"], "no Python files below nothing"),
        (["sources", "--readers", "0"], "argument --readers: must be a whole number, at least 1, not '0'"),
        (["sources", "--readers", "x"], "argument --readers: must be a whole number, at least 1, not 'x'"),
        (["sources", "--json", "--find", "f"], "not allowed with argument --json"),
    ],
)
def test_index_refuses(arguments: list[str], message: str, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()

    assert message in error_of("mixed_index.py", *arguments, cwd=tmp_path)


def test_index_says_which_folder_it_cannot_read(sources: Path, tmp_path: Path) -> None:
    refuse = """import os
scan = os.scandir
def scandir(path):
    if os.path.basename(path) == "deep":
        raise PermissionError(13, "Permission denied", path)
    return scan(path)
os.scandir = scandir"""
    result = run("mixed_index.py", sources, "--json", cwd=tmp_path, code=f"exec({refuse!r})")

    assert (result.returncode, result.stderr) == (0, f"can't read {sources / 'deep'}: Permission denied\n")
    assert json.loads(result.stdout)["files"] == 7  # of 9


def test_index_without_a_standard_error(sources: Path, tmp_path: Path) -> None:
    result = run("mixed_index.py", sources, "--json", cwd=tmp_path, code="import sys; sys.stderr = None")

    assert result.returncode == 0
    assert json.loads(result.stdout)["files"] == 9


def test_index_without_rich_says_what_to_install(tmp_path: Path) -> None:
    missing = "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None"
    result = run("mixed_index.py", cwd=tmp_path, code=missing)

    assert (result.returncode, result.stdout) == (2, "")
    assert "pip install 'greenthreads[examples]'" in result.stderr


# --- round_robin ---------------------------------------------------------------------------------

ROUND_ROBIN = """\
main       thread 1   thread 2   thread 3
--- taking turns
started
           step 1
                      step 1
                                 step 1
           step 2
                      step 2
                                 step 2
           step 3
                      step 3
                                 step 3
joined
--- one lock
           asks
           enters
                      asks
                                 asks
           leaves
                      enters
                      leaves
                                 enters
                                 leaves
--- one event
           waits
                      waits
                                 waits
opens
           passes
                      passes
                                 passes
--- one queue, with room for one item
puts 1
puts 2
puts 3
puts 4
           gets 1
           gets 4
           ends
                      gets 2
                                 gets 3
                      ends
                                 ends
"""


def test_round_robin_prints_the_same_order_every_time(tmp_path: Path) -> None:
    for _ in range(3):
        assert output_of("round_robin.py", cwd=tmp_path) == ROUND_ROBIN


def test_round_robin_with_more_threads(tmp_path: Path) -> None:
    output = output_of("round_robin.py", "--threads", 40, "--steps", 2, cwd=tmp_path)

    turns = re.findall(r"^( +)step (\d)$", output, re.MULTILINE)
    order = [(int(step), len(indent) // 11) for indent, step in turns]
    assert order == [(step, thread) for step in (1, 2) for thread in range(1, 41)]


def test_round_robin_refuses_no_threads(tmp_path: Path) -> None:
    message = "argument --threads: must be a whole number, at least 1, not '0'"
    assert message in error_of("round_robin.py", "--threads", "0", cwd=tmp_path)


# --- same_code_two_kinds -------------------------------------------------------------------------


def test_same_code_two_kinds_compares_both(tmp_path: Path) -> None:
    output = output_of("same_code_two_kinds.py", "--rounds", 50, cwd=tmp_path)

    title, empty, header, *rows = output.splitlines()
    assert title == "microseconds for each operation; best of 3 times 50 rounds"
    assert empty == ""
    assert header.split() == ["user", "kernel", "ratio"]
    assert [row.split()[0] for row in rows] == ["spawn", "yield", "hand-off"]
    assert all(float(figure) > 0 for row in rows for figure in row.split()[1:])


def test_same_code_two_kinds_hands_on_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load("same_code_two_kinds", monkeypatch)

    for kind in ("user", "kernel"):
        assert program.run_scheduler(program.hand_off, kind, 25) == 50


def test_same_code_two_kinds_refuses_no_rounds(tmp_path: Path) -> None:
    message = "argument --rounds: must be a whole number, at least 1, not '-1'"
    assert message in error_of("same_code_two_kinds.py", "--rounds", "-1", cwd=tmp_path)


# --- hundred_thousand ----------------------------------------------------------------------------


def test_all_threads_meet(tmp_path: Path) -> None:
    output = output_of("hundred_thousand.py", 2000, cwd=tmp_path)

    *phases, memory, verdict = output.splitlines()
    assert len(phases) == 4
    assert phases[0].startswith("2,000 threads made")
    assert memory.startswith("peak memory")
    assert verdict == "2,000 of 2,000 met"


def test_one_thread_meets_itself(tmp_path: Path) -> None:
    assert output_of("hundred_thousand.py", 1, cwd=tmp_path).endswith("\n1 of 1 met\n")


def test_a_meeting_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A thread that goes on too early has not met the others."""
    program = load("hundred_thousand", monkeypatch)
    gate_that_is_open = program.Event()
    gate_that_is_open.set()
    monkeypatch.setattr(program, "Event", lambda: gate_that_is_open)
    monkeypatch.setattr(sys, "argv", ["hundred_thousand.py", "10"])
    monkeypatch.setattr(program, "WITHIN_SECONDS", 0.01)

    assert program.main() == 1
    assert not capsys.readouterr().out.endswith("\n10 of 10 met\n")


@pytest.mark.parametrize("argument", ["0", "many", "1e5"])
def test_hundred_thousand_refuses(argument: str, tmp_path: Path) -> None:
    message = f"argument N: must be a whole number, at least 1, not {argument!r}"
    assert message in error_of("hundred_thousand.py", argument, cwd=tmp_path)


# --- echo_load, crawler, chat --------------------------------------------------------------------


def test_every_message_comes_back(tmp_path: Path) -> None:
    output = output_of("echo_load.py", "--clients", 50, "--messages", 4, cwd=tmp_path)
    assert output.startswith("50 clients, 200 messages of 100 bytes came back in ")


def test_clients_without_a_server_say_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    message = error_of("echo_load.py", "--clients", 3, "--connect", port, cwd=tmp_path, exit_code=1)
    assert message.startswith("3 of 3 clients failed: ")


@pytest.mark.parametrize(("program", "option"), [("echo_load.py", "--serve"), ("chat.py", "--port")])
def test_a_port_that_is_taken(program: str, option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = error_of(program, option, port, cwd=tmp_path, exit_code=1)
    assert re.match(rf"{program}: .*already in use", message)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("echo_load.py", ["--clients", "0"], "argument --clients: must be a whole number, at least 1, not '0'"),
        ("echo_load.py", ["--connect", "65536"], "argument --connect: must be a port, 0 to 65535, not '65536'"),
        ("crawler.py", ["--workers", "0"], "argument --workers: must be a whole number, at least 1, not '0'"),
        ("chat.py", ["--port", "x"], "argument --port: must be a port, 0 to 65535, not 'x'"),
    ],
)
def test_the_programs_with_sockets_refuse(program: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in error_of(program, *arguments, cwd=tmp_path)


@pytest.mark.parametrize("kind", ["user", "kernel"])
def test_every_page_is_found(kind: str, tmp_path: Path) -> None:
    crawler = str(EXAMPLES / "crawler.py")
    command = [sys.executable, *(["-m", "greenthreads"] if kind == "user" else []), crawler]
    result = subprocess.run(
        [*command, "--pages", "60", "--workers", "20"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(rf"60 pages in [\d.]+ s by 20 {kind} threads\n", result.stdout)


def test_everybody_sees_what_is_said(tmp_path: Path) -> None:
    said = "* Cid has come | Ann: hello | Bob: good morning"
    assert output_of("chat.py", "--demo", cwd=tmp_path).splitlines() == [
        f"Ann has seen: * Ann has come | * Bob has come | {said} | * Cid has gone",
        f"Bob has seen: * Bob has come | {said} | * Cid has gone",
        f"Cid has seen: {said}",
    ]


# --- find_the_bug --------------------------------------------------------------------------------


def test_the_bugs_are_found_and_the_repaired_classes_have_none(tmp_path: Path) -> None:
    lines = output_of("find_the_bug.py", cwd=tmp_path).splitlines()
    heads, traces, repaired = lines[::3], lines[1::3], lines[2::3]
    assert [head.split(" with ")[0] for head in heads] == [
        "pool: exception",
        "accounts: deadlock",
        "hits: assertion",
        "tickets: assertion",
    ]
    assert "lost update of self.count" in heads[2]
    assert "check-then-act of self.left" in heads[3]
    assert all(re.fullmatch(r"  g1:[\w/-]+\.[0-9a-f]{8}", trace) for trace in traces)
    assert [" ".join(line.split()[:1]) for line in repaired] == ["repaired:"] * 4
    assert all("executions: every schedule" in line for line in repaired)


def test_a_bug_is_explained_and_happens_again(tmp_path: Path) -> None:
    report = output_of("find_the_bug.py", "--report", "accounts", cwd=tmp_path)
    assert "1 Thread-1 waits to acquire yours.lock, held by 2 Thread-2" in report
    command, _colon, again = report.splitlines()[-1].partition(": ")
    assert command == "replay"
    program, *arguments = again.split()
    result = run(program, *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("again: Deadlock(")


def test_a_trace_that_is_none_or_of_another_test_is_refused(tmp_path: Path) -> None:
    assert "'xx' is no trace" in error_of("find_the_bug.py", "--replay", "hits", "xx", cwd=tmp_path)
    assert "no test named 'tickets'" in error_of("find_the_bug.py", "--replay", "tickets", "xx", cwd=tmp_path)
    hits = output_of("find_the_bug.py", cwd=tmp_path).splitlines()[7].strip()
    assert "error: " in error_of("find_the_bug.py", "--replay", "pool", hits, cwd=tmp_path)
