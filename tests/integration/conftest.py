"""Real servers, started where they are found, each in a folder of its own, and unmodified programs that use them."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import greenthreads

# Servers have to start, on a machine that has other things to do.
PATIENCE = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture
def run_unmodified(tmp_path: Path) -> Callable[..., str]:
    """Run a program by `run_scheduler`; what it prints. It needs the packages named, or the test is skipped."""

    def run(source: str, *arguments: object, needs: tuple[str, ...] = ()) -> str:
        require(*needs)
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "greenthreads", str(path), *map(str, arguments)],
            env=environment(), capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def require(*packages: str) -> None:
    for each in packages:
        if importlib.util.find_spec(each) is None:
            pytest.skip(f"needs {each}: pip install 'greenthreads[integration]'")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(greenthreads.__file__).parent.parent)}


def program(name: str, *patterns: str) -> str:
    """The path of a server's program, or the test is skipped."""
    for each in (shutil.which(name), *(path for pattern in patterns for path in sorted(glob.glob(pattern)))):
        if each:
            return each
    pytest.skip(f"needs {name}, which is not on this machine")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def who(name: str) -> dict[str, Any]:
    """The user to run a server as that refuses to be root's."""
    if os.getuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"we are root, and there is no user {name} to run the server as")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path, **options: Any) -> Iterator[None]:
    """A server in the background, from when it listens until the end of the block."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                break
            text = (folder / "log").read_text(errors="replace")
            assert process.poll() is None, f"{command[0]} has ended:\n{text}"
            assert time.monotonic() < end, f"{command[0]} does not listen:\n{text}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    require("redis")
    server, port, folder = program("redis-server"), free_port(), tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, port, folder):
        yield port


@pytest.fixture(scope="session")
def postgres_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if importlib.util.find_spec("psycopg") is None:
        require("pg8000")
    places = "/usr/lib/postgresql/*/bin/"
    initdb, server = program("initdb", places + "initdb"), program("postgres", places + "postgres")
    port, folder, user = free_port(), tmp_path_factory.mktemp("postgres"), who("postgres")
    # Its folder has to be its own, and those above it open.
    data = Path("/var/tmp") / f"greenthreads-postgres-{os.getpid()}"
    data.mkdir(mode=0o700)
    try:
        if user:
            os.chown(data, user["user"], user["group"])
        options = {**user, "cwd": data}
        subprocess.run(
            [initdb, "-D", str(data / "data"), "-A", "trust", "-U", "postgres", "--no-sync"],
            check=True, capture_output=True, **options,
        )  # fmt: skip
        settings = ["max_connections=250", "fsync=off", f"unix_socket_directories={data}", "listen_addresses=127.0.0.1"]
        command = [server, "-D", str(data / "data"), "-p", str(port)]
        for each in settings:
            command += ["-c", each]
        with running(command, port, folder, **options):
            yield port
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    require("pymysql")
    install, server = program("mariadb-install-db"), program("mariadbd", "/usr/sbin/mariadbd")
    port, folder = free_port(), tmp_path_factory.mktemp("mariadb")
    me = f"--user={pwd.getpwuid(os.getuid()).pw_name}"
    base = ["--no-defaults", f"--datadir={folder / 'data'}", me]
    subprocess.run(
        [install, *base, "--auth-root-authentication-method=normal", "--skip-test-db"], check=True, capture_output=True
    )
    command = [server, *base, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 's'}"]
    with running([*command, "--max-connections=250", f"--pid-file={folder / 'pid'}"], port, folder):
        yield port
