"""A crawler over a site that this program serves itself; nothing here knows of green threads.

    python -m greenthreads examples/crawler.py
    python examples/crawler.py                       # the same program on kernel threads

`run_scheduler` (here as `python -m greenthreads`) puts user threads in the place of `threading`'s, so that hundreds of
workers cost next to nothing. Server, crawler and the pages' delay are plain standard library.
"""

from __future__ import annotations

import argparse
import queue
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site(BaseHTTPRequestHandler):
    """A tree of pages: page n links to the pages 3n+1, 3n+2 and 3n+3."""

    pages = 200
    delay = 0.02

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 0)
        time.sleep(self.delay)  # What a database would take.
        links = [n for n in range(3 * number + 1, 3 * number + 4) if n < self.pages]
        body = "".join(f'<a href="/{n}">page {n}</a>\n' for n in links).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Crawler:
    """Follows every link, with a number of workers that share a queue of pages to come."""

    def __init__(self, root: str, workers: int) -> None:
        self.root = root
        self.seen = {"/"}
        self.lock = threading.Lock()
        self.pages: queue.Queue[str] = queue.Queue()
        self.pages.put("/")
        self.workers = [threading.Thread(target=self.work, daemon=True) for _ in range(workers)]

    def crawl(self) -> int:
        for each in self.workers:
            each.start()
        self.pages.join()
        return len(self.seen)

    def work(self) -> None:
        while True:
            page = self.pages.get()
            try:
                with urllib.request.urlopen(self.root + page) as answer:
                    text = answer.read().decode()
                for link in re.findall(r'href="([^"]+)"', text):
                    with self.lock:
                        new = link not in self.seen
                        self.seen.add(link)
                    if new:
                        self.pages.put(link)
            finally:
                self.pages.task_done()


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="crawler.py", description="Crawl a site that this program serves itself.")
    parser.add_argument("--pages", type=positive, default=200)
    parser.add_argument("--workers", type=positive, default=50)
    options = parser.parse_args()
    Site.pages = options.pages
    ThreadingHTTPServer.request_queue_size = 1024
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.perf_counter()
        found = Crawler(f"http://127.0.0.1:{server.server_port}", options.workers).crawl()
        seconds = time.perf_counter() - began
        server.shutdown()
    kind = getattr(threading.current_thread(), "kind", "kernel")
    one_by_one = found * Site.delay
    print(f"{found} pages in {seconds:.2f} s by {options.workers} {kind} threads")
    print(f"one by one they would have taken {one_by_one:.2f} s at least")


if __name__ == "__main__":
    main()
