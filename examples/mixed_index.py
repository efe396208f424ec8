"""Index the words and definitions of all Python files below a folder, with both kinds of thread.

It shows two kinds of thread at work on one job, through one `Thread` class and the same queues
and locks:

    paths ──► 4 kernel threads ──┬──► a user thread for each file: counts its words
              read the files     └──► a user thread for each file: finds its functions and classes

Reading blocks in the operating system, so kernel threads do it, and nobody else stands still
meanwhile. Work that has many small parts belongs to user threads, which cost next to nothing:
more than 3,000 of them for the standard library. Readers that get ahead wait for room in a
bounded queue, so that only a few files are in memory at any time. Nothing in the code says which
kind of thread waits for which.

How to run it (without DIR it takes the standard library of the Python that runs it):

    python examples/mixed_index.py                   # a progress bar, then two tables
    python examples/mixed_index.py DIR --check       # compare with a plain sequential pass
    python examples/mixed_index.py DIR --json        # the totals, for a program to read
    python examples/mixed_index.py --find run        # where is `run` defined?

It exits with 0; with 1 when --check finds a difference, or --find nothing; with 2 when there is
nothing to index; with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import signal
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import decode_source
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from greenthreads import Event, Lock, Queue, Thread, run_scheduler, yield_now

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
    from rich.table import Table
except ImportError:
    print("mixed_index.py draws with rich: pip install 'greenthreads[examples]'", file=sys.stderr)
    sys.exit(2)

WORD = re.compile(r"[^\W\d_]{2,}")  # letters of any script; `run_scheduler` is two words
LINES_PER_TURN = 200  # a user thread runs until it says otherwise: after so many lines it does
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}


# --- What is indexed. Both passes call these functions; neither knows of threads. ----------------


class Definition(NamedTuple):
    """One function or class, and where it stands."""

    name: str
    path: str
    line: int


@dataclass
class Index:
    """What is known of the files so far."""

    files: int = 0
    lines: int = 0
    unreadable: int = 0  # no permission, or bytes that are not the text they claim to be
    unparsable: int = 0  # text that is not the Python of this interpreter
    words: Counter[str] = field(default_factory=Counter)
    definitions: set[Definition] = field(default_factory=set)

    def add_file(self, text: str | None) -> None:
        """Count a file that was read, or (None) could not be."""
        self.files += 1
        if text is None:
            self.unreadable += 1
        else:
            self.lines += text.count("\n") + (not text.endswith("\n") and text != "")

    def add_definitions(self, found: list[Definition] | None) -> None:
        """Add the definitions of one file, or (None) count it as not parsable."""
        if found is None:
            self.unparsable += 1
        else:
            self.definitions.update(found)


def complain(error: OSError) -> None:
    """Say which folder can't be read; the others can."""
    print(f"can't read {error.filename}: {error.strerror}", file=sys.stderr)


def python_files(folder: Path) -> list[Path]:
    """The Python files below `folder`, sorted; installed packages are left out."""
    found: list[Path] = []
    for parent, subfolders, names in os.walk(folder, onerror=complain):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        candidates = (Path(parent, name) for name in sorted(names) if name.endswith(".py"))
        found.extend(path for path in candidates if path.is_file())  # not a pipe: it would block
    return found


def read_source(path: Path) -> str | None:
    """The text of a Python file, decoded as Python itself would; None when that fails."""
    try:
        return decode_source(path.read_bytes())
    except (OSError, SyntaxError, LookupError, ValueError):
        return None


def words_of(text: str) -> Iterator[list[str]]:
    """The words of `text` in lower case, in portions of LINES_PER_TURN lines."""
    lines = text.split("\n")
    for start in range(0, len(lines), LINES_PER_TURN):
        portion = "\n".join(lines[start : start + LINES_PER_TURN])
        yield WORD.findall(portion.lower())


def definitions_of(path: Path, text: str) -> list[Definition] | None:
    """The functions and classes defined in `text`; None when it cannot be parsed."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [Definition(node.name, str(path), node.lineno) for node in ast.walk(tree) if isinstance(node, kinds)]


def index_sequentially(paths: Iterable[Path]) -> Index:
    """One file after the other, without threads: what --check compares with."""
    index = Index()
    for path in paths:
        text = read_source(path)
        index.add_file(text)
        if text is not None:
            for words in words_of(text):
                index.words.update(words)
            index.add_definitions(definitions_of(path, text))
    return index


# --- The same with threads of both kinds. --------------------------------------------------------


class MixedIndexer:
    """Indexes `paths` with a few kernel threads that read and two user threads for each file."""

    def __init__(self, paths: Sequence[Path], *, readers: int, in_flight: int) -> None:
        self.total = len(paths)
        self.index = Index()
        self.done: Counter[str] = Counter()  # files behind us, for each of the bars
        self.lock = Lock()  # guards `index` and `done`, which threads of both kinds change

        self.paths: Queue[Path | None] = Queue()
        for path in paths:
            self.paths.put(path)
        for _ in range(readers):
            self.paths.put(None)  # the end, once for each reader

        self.for_words: Queue[tuple[Path, str | None]] = Queue()
        self.for_definitions: Queue[tuple[Path, str | None]] = Queue()
        # The work that is handed out and not done. A reader that is ahead of the user threads
        # waits here for room. (Bounds on the two queues above would not hold it back: a thread
        # waits there for each file, and takes what is put at once.)
        self.in_flight: Queue[Path] = Queue(maxsize=in_flight)

        # All are daemons, so that Ctrl-C in the main thread ends the program at once.
        self.threads: list[Thread] = []
        for _ in range(readers):
            self.threads.append(Thread(target=self.read, kind="kernel", daemon=True))
        for _ in paths:
            self.threads.append(Thread(target=self.count_words, kind="user", daemon=True))
            self.threads.append(Thread(target=self.find_definitions, kind="user", daemon=True))
        self.all_ended = Event()

    def run(self) -> Index:
        """Start all threads and wait for them; this runs as the main user thread."""
        with ProgressBars(self.total) as bars:
            reporter = Thread(target=self.report, args=(bars,), kind="user", daemon=True)
            reporter.start()
            for thread in self.threads:
                thread.start()
            for thread in self.threads:
                thread.join()
            self.all_ended.set()
            reporter.join()
        return self.index

    def read(self) -> None:
        """A kernel thread: read files until there are none left."""
        while (path := self.paths.get()) is not None:
            text = read_source(path)
            with self.lock:
                self.index.add_file(text)
                self.done["read"] += 1
            # An unreadable file is handed on too: a thread for each file waits for it.
            for queue in (self.for_words, self.for_definitions):
                self.in_flight.put(path)
                queue.put((path, text))

    def count_words(self) -> None:
        """A user thread: count the words of one file."""
        _, text = self.for_words.get()
        counted: Counter[str] = Counter()
        for words in words_of(text or ""):
            counted.update(words)
            yield_now()
        with self.lock:
            self.index.words.update(counted)
            self.done["words"] += 1
        self.in_flight.get()

    def find_definitions(self) -> None:
        """A user thread: find the functions and classes of one file."""
        path, text = self.for_definitions.get()
        found = [] if text is None else definitions_of(path, text)
        with self.lock:
            self.index.add_definitions(found)
            self.done["definitions"] += 1
        self.in_flight.get()

    def report(self, bars: ProgressBars) -> None:
        """A user thread: redraw the bars ten times a second, and once more at the end."""
        while not self.all_ended.wait(0.1):
            bars.show(self.done)
        bars.show(self.done)


# --- What people see. ----------------------------------------------------------------------------


class ProgressBars(Progress):
    """A bar for each stage, on standard error; nothing at all where that is no terminal."""

    def __init__(self, total: int) -> None:
        super().__init__(
            "{task.description:>29}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=sys.stderr is None or not sys.stderr.isatty(),
            auto_refresh=False,  # a user thread redraws, instead of a thread of rich's own
        )
        self.bars = {
            "read": self.add_task("kernel threads read", total=total),
            "words": self.add_task("user threads count words", total=total),
            "definitions": self.add_task("user threads find definitions", total=total),
        }

    def show(self, done: Mapping[str, int]) -> None:
        """Draw how many files each stage has behind it."""
        for stage, bar in self.bars.items():
            self.update(bar, completed=done[stage])
        self.refresh()


def most_common(counts: Mapping[str, int], limit: int = 10) -> list[tuple[str, int]]:
    """The names with the highest counts; equal counts in alphabetical order, unlike Counter's."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


def totals_of(index: Index) -> dict[str, int]:
    """The figures of `index`, by the names that they have in --json."""
    return {
        "files": index.files,
        "unreadable": index.unreadable,
        "unparsable": index.unparsable,
        "lines": index.lines,
        "words": index.words.total(),
        "distinct_words": len(index.words),
        "definitions": len(index.definitions),
    }


def differences(mixed: Index, plain: Index) -> list[str]:
    """What the two passes do not agree on, a line for each; empty when all is the same."""
    expected = totals_of(plain)
    found = [
        f"{name}: {count:,} with threads, {expected[name]:,} without"
        for name, count in totals_of(mixed).items()
        if count != expected[name]
    ]
    if not found and mixed != plain:
        found.append("the totals are the same, but of different words or definitions")
    return found


@dataclass
class Report:
    """Everything that is shown at the end."""

    folder: Path
    index: Index
    threads: Mapping[str, int]  # by kind
    seconds: float
    sequential_seconds: float | None = None  # only with --check

    def common_words(self) -> list[tuple[str, int]]:
        return most_common(self.index.words)

    def common_definitions(self) -> list[tuple[str, int]]:
        return most_common(Counter(definition.name for definition in self.index.definitions))

    def as_json(self) -> str:
        """One JSON object."""
        report: dict[str, object] = {"folder": str(self.folder), **totals_of(self.index)}
        report["most_common_words"] = self.common_words()
        report["most_common_definitions"] = self.common_definitions()
        report["threads"] = self.threads
        report["seconds"] = round(self.seconds, 3)
        if self.sequential_seconds is not None:
            report["sequential_seconds"] = round(self.sequential_seconds, 3)
        return json.dumps(report, indent=2)

    def show(self) -> None:
        """Two tables: the totals, and the most common names."""
        totals = Table(show_header=False)
        totals.add_column()
        totals.add_column(justify="right")
        for name, count in totals_of(self.index).items():
            totals.add_row(name.replace("_", " "), f"{count:,}")
        totals.add_section()
        for kind, count in sorted(self.threads.items()):
            totals.add_row(f"{kind} threads", f"{count:,}")
        totals.add_row("wall time", f"{self.seconds:.2f} s")
        if self.sequential_seconds is not None:
            totals.add_row("the same without threads", f"{self.sequential_seconds:.2f} s")

        names = Table()
        for title in ("most common words", "most common definitions"):
            names.add_column(title)
            names.add_column("times", justify="right")
        words = [(name, f"{count:,}") for name, count in self.common_words()]
        definitions = [(name, f"{count:,}") for name, count in self.common_definitions()]
        for left, right in zip_longest(words, definitions, fillvalue=("", "")):
            names.add_row(*left, *right)

        print(self.folder)
        Console().print(totals, names)


# --- The command. --------------------------------------------------------------------------------


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, each with its default; exits with 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        description="Index the words and definitions of all Python files below a folder.",
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=Path(sysconfig.get_path("stdlib")),
        help="default: the standard library, %(default)s",
    )
    parser.add_argument("--readers", type=positive, default=4, help="kernel threads that read")
    parser.add_argument("--in-flight", type=positive, default=16, help="how far the readers may be ahead")
    parser.add_argument("--check", action="store_true", help="compare with a sequential pass; exit 1 if it differs")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the totals as JSON")
    output.add_argument("--find", metavar="NAME", help="print only where NAME is defined")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{'not a' if options.folder.exists() else 'no such'} folder: {options.folder}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Index, compare if asked to, print what was asked for; returns the exit status."""
    options = parse(arguments)
    paths = python_files(options.folder)
    if not paths:
        print(f"no Python files below {options.folder}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # what ast.parse() thinks of other people's files
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may be no text

    started = time.perf_counter()
    indexer = MixedIndexer(paths, readers=options.readers, in_flight=options.in_flight)
    index = run_scheduler(indexer.run)
    seconds = time.perf_counter() - started
    kinds = Counter[str](thread.kind for thread in indexer.threads)
    report = Report(options.folder, index, kinds, seconds)

    if options.check:
        started = time.perf_counter()
        plain = index_sequentially(paths)
        report.sequential_seconds = time.perf_counter() - started
        if found := differences(index, plain):
            print("the two passes differ:", *found, sep="\n  ", file=sys.stderr)
            return 1

    if options.json:
        print(report.as_json())
    elif options.find is None:
        report.show()
    else:
        places = sorted(place for place in index.definitions if place.name == options.find)
        for place in places:
            print(f"{place.path}:{place.line}")
        return 0 if places else 1
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough: the end, and no error
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
