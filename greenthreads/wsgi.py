"""A WSGI server for development: the standard library's, with a user thread for each connection.

    python -m greenthreads.wsgi MODULE:APP [--host HOST] [--port PORT]

patches the process, so that the application blocks on nothing but computing. In a program of its own:

    run_scheduler(serve, app, "127.0.0.1", 8000)

It has what `wsgiref` has: HTTP/1.0, a connection for each request, no limits. For more use gunicorn with
`greenthreads.gunicorn.Worker`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any
from wsgiref import simple_server

from greenthreads import socket
from greenthreads.patch import patch_all
from greenthreads.thread import Thread
from scheduler import run_scheduler, sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Server", "serve"]


class Server(simple_server.WSGIServer):
    """A `wsgiref` server whose connections are served by user threads. Start it with `serve_forever`."""

    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], app: Any, *, quiet: bool = False) -> None:
        super().__init__(address, _QuietHandler if quiet else simple_server.WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        # Ours, whether the process is patched or not.
        self.socket = socket.socket(self.address_family, self.socket_type)
        try:
            self.server_bind()
            self.server_activate()
        except BaseException:
            self.server_close()
            raise
        self.set_app(app)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept connections until `shutdown`, or `server_close`, is called by another thread."""
        while True:
            try:
                request, address = self.socket.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):
                    return
                # No descriptors left, or a client that has gone again. The connections that there are go on.
                sleep(0.05)
                continue
            Thread(target=self._serve, args=(request, address), daemon=True).start()

    def shutdown(self) -> None:
        """End `serve_forever`."""
        self.server_close()

    def _serve(self, request: Any, address: Any) -> None:
        try:
            self.finish_request(request, address)
        except ConnectionError:
            pass  # The client has gone.
        except Exception:
            self.handle_error(request, address)
        finally:
            self.shutdown_request(request)


class _QuietHandler(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(app: Any, host: str = "127.0.0.1", port: int = 8000, *, quiet: bool = False) -> None:
    """Serve `app` until interrupted. In a user thread others run meanwhile."""
    with Server((host, port), app, quiet=quiet) as server:
        server.serve_forever()


def main(argv: Sequence[str] | None = None) -> None:
    """The command: see the top of the file."""
    parser = argparse.ArgumentParser(prog="python -m greenthreads.wsgi", description="Serve a WSGI application.")
    parser.add_argument("app", metavar="MODULE:APP")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(argv)
    patch_all()
    sys.path.insert(0, os.getcwd())

    def run() -> None:
        module, _, name = options.app.partition(":")
        app = getattr(importlib.import_module(module), name or "application")
        with Server((options.host, options.port), app) as server:
            host, port = server.socket.getsockname()[:2]
            print(f"serving {options.app} at http://{host}:{port}/", file=sys.stderr, flush=True)
            server.serve_forever()

    try:
        run_scheduler(run)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
