"""The standard modules for blocking I/O, patched: restored exactly, reached everywhere; who comes too late is told."""

from __future__ import annotations

import gc
import os
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import greenthreads.socket
from greenthreads import patch, patched, run_scheduler
from scheduler.poller import pollers

MODULES = (os, select, selectors, signal, socket, ssl, subprocess)


def snapshot() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            found[f"{module.__name__}.{name}"] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for attribute, inner in vars(value).items():
                    found[f"{module.__name__}.{name}.{attribute}"] = inner
    return found


def test_everything_is_restored_exactly() -> None:
    before = snapshot()
    for _ in range(2):
        with patched():
            during = snapshot()
            changed = {name for name in before if during.get(name) is not before[name]}
            assert {"socket.socket", "select.select", "subprocess.Popen", "os.read"} <= changed
            assert "ssl.SSLContext.sslsocket_class" in changed
        after = snapshot()
        assert [name for name in before if after.get(name) is not before[name]] == []
        assert set(after) == set(before)


def test_names_that_modules_have_bound_before_are_replaced() -> None:
    module = types.ModuleType("a_program")
    module.__dict__.update(connect=socket.create_connection, S=socket.socket, read=os.read, P=subprocess.Popen)
    sys.modules["a_program"] = module
    try:
        with patched():
            assert module.S is socket.socket
            assert module.read is os.read
            assert module.P is subprocess.Popen
        assert module.S is socket.socket
    finally:
        del sys.modules["a_program"]


def test_contexts_made_before_make_our_sockets() -> None:
    context = ssl.create_default_context()
    with patched():
        with socket.socket() as raw, context.wrap_socket(raw, server_hostname="localhost") as wrapped:
            assert isinstance(wrapped, greenthreads.socket.socket)
            assert isinstance(wrapped, ssl.SSLSocket)


def test_who_comes_too_late_is_named() -> None:
    module = types.ModuleType("a_program")
    exec("import socket, _thread\nclass Mine(socket.socket): pass\nlock = _thread.allocate_lock()", module.__dict__)
    sys.modules["a_program"] = module
    held = module.lock
    try:
        with pytest.warns(RuntimeWarning, match=r"too late for class a_program\.Mine, lock a_program\.lock"):
            with patched():
                pass
    finally:
        del sys.modules["a_program"]
        assert held is module.__dict__["lock"]
        # Or it would be named in other tests, too.
        module.__dict__.clear()
        gc.collect()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="looks at the system's epoll")
def test_a_scheduler_in_a_scope_polls_by_the_system_itself() -> None:
    real = select.epoll

    def main() -> object:
        a, b = socket.socketpair()
        with a, b:
            b.sendall(b"x")
            a.settimeout(0.001)
            a.recv(1)
            with pytest.raises(TimeoutError):
                a.recv(1)
        (poller,) = pollers
        return type(poller._system._epoll)

    with patched():
        assert run_scheduler(main) is real


def test_in_time_there_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with patched():
            assert patch.is_patched()


def test_an_unmodified_program(script: Callable[..., Any]) -> None:
    """A server, its clients and a child process in one program that knows nothing of this library."""
    program = """
        import socketserver, subprocess, sys, threading, urllib.request
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                everybody.wait()  # Nobody is answered before all have asked.
                self.send_response(200)
                self.end_headers()
                self.wfile.write(subprocess.check_output(["echo", self.path]))

            def log_message(self, *args):
                pass

        count = 20
        everybody = threading.Barrier(count)
        ThreadingHTTPServer.request_queue_size = count
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        found = []

        def get(n):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{n}") as answer:
                found.append(answer.read())

        threads = [threading.Thread(target=get, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.shutdown()
        serving.join()
        server.server_close()
        print(len(set(found)), threading.current_thread().kind)
    """
    source = f"""
        import sys, textwrap
        from greenthreads.cli import main
        sys.exit(main(["-c", textwrap.dedent({program!r})]))
    """
    assert script(source).stdout == "20 user\n"


def test_the_same_objects_work_before_and_after() -> None:
    """A socket that was made in a scope goes on working outside of it, and in other kinds of thread."""
    with patched():
        a, b = socket.socketpair()
    with a, b:
        b.sendall(b"x")
        assert a.recv(1) == b"x"

        def main() -> bytes:
            b.sendall(b"y")
            return a.recv(1)

        assert run_scheduler(main) == b"y"
