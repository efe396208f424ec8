"""HTTP "hello" under gunicorn: our worker beside gevent's, with `wrk` as the load.

    python benchmarks/http.py [--rounds N] [--seconds S] [--connections C]

Needs gunicorn and gevent (pip install 'greenthreads[bench,gunicorn]') and the program wrk. The workers take turns; the
server has one processor, wrk the others. CPU per request is the server's, its master process included. A worker that
does not start is left out, and said why; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS, STOP_SECONDS = 20.0, 40.0
WORKERS = {"greenthreads": "greenthreads.gunicorn.Worker", "gevent": "gevent"}
APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class NotStarted(Exception):
    """A server did not come to serve, for a reason of its own."""


def await_server(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once it answers; NotStarted with the end of its log if it ends, or is silent for too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if b" 200 OK" in client.recv(4096):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    end = "is silent" if server.poll() is None else f"ended with status {server.returncode}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise NotStarted("\n".join([f"the server {end}; the last it said:", *lines[-8:]]))


def measure(worker: str, seconds: int, connections: int, folder: str) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's CPU time for each. NotStarted."""
    port = free_port()
    processors = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "gunicorn", "-k", WORKERS[worker], "-b", f"127.0.0.1:{port}", "hello_app:app"]
    before = cpu_of_children()
    log = Path(folder, "log")
    os.sched_setaffinity(0, processors[:1])
    with log.open("wb") as output_of_server:
        server = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output_of_server,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    os.sched_setaffinity(0, processors[1:] or processors)
    try:
        await_server(server, port, log)
        load = ["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s", f"http://127.0.0.1:{port}/"]
        output = subprocess.run(load, capture_output=True, text=True, check=True).stdout
    finally:
        loads = cpu_of_children() - before
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        os.sched_setaffinity(0, processors)
    found = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or rate is None or "Non-2xx" in output:
        raise SystemExit(f"wrk says:\n{output}")
    return float(rate[1]), (cpu_of_children() - before - loads) / int(found[1]) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/http.py", description='HTTP "hello" under gunicorn.')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=100)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("needs the program wrk")
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in WORKERS}
    lost: dict[str, NotStarted] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hello_app.py").write_text(APP, encoding="utf-8")
        for _ in range(options.rounds):
            for name, found in results.items():
                if name not in lost:
                    try:
                        found.append(measure(name, options.seconds, options.connections, folder))
                    except NotStarted as reason:
                        lost[name] = reason
    print(f"{'worker':14}{'requests/s':>12}{'CPU µs each':>14}   medians of {options.rounds} rounds")
    for name, found in results.items():
        if name not in lost:
            print(f"{name:14}{median(r for r, _ in found):12,.0f}{median(c for _, c in found):14,.1f}")
    for name, reason in lost.items():
        print(f"\n{name}: {reason}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
