"""What the tests of blocking I/O share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from kqueue_model import SYSTEMS, offer

from greenthreads import Thread, run_scheduler
from greenthreads.carriers import Kind
from scheduler import poller


@pytest.fixture
def in_thread(kind: Kind) -> Callable[..., Any]:
    """Run a function in a thread of the kind, inside a scheduler; what it returns, or raises."""

    def run(body: Callable[..., Any], *args: Any) -> Any:
        found: list[Any] = []

        def thread() -> None:
            try:
                found.append((True, body(*args)))
            except BaseException as error:
                found.append((False, error))

        def main() -> None:
            each = Thread(target=thread, kind=kind)
            each.start()
            each.join()

        run_scheduler(main)
        ok, value = found[0]
        if not ok:
            raise value
        return value

    return run


@pytest.fixture
def waits_for_a_descriptor(waits: Callable[[Any], bool]) -> Callable[[Thread], bool]:
    """Whether a thread is where it blocks until a descriptor is ready: for one of the kernel's, the system knows."""

    def blocked(thread: Thread) -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return waits(thread) or (frame is not None and frame.f_code is poller.any_ready.__code__)

    return blocked


# Those that wait for descriptors in all ways. The others do so on the system's best only.
ON_EACH_SYSTEM = {"test_descriptors", "test_faults", "test_processes", "test_select", "test_socket", "test_ssl"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    each = metafunc.module.__name__.rpartition(".")[2] in ON_EACH_SYSTEM
    metafunc.parametrize("system", SYSTEMS if each else SYSTEMS[:1], indirect=True)


@pytest.fixture(autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the pollers of the schedulers ask."""
    monkeypatch.setattr(poller, "SYSTEM", offer(request.param, monkeypatch))
    return str(request.param)
