"""`greenthreads.select` and `.selectors`: the standard answers, while other threads run."""

from __future__ import annotations

import importlib.util
import os
import select as standard
import selectors as standard_selectors
from collections.abc import Callable, Iterator
from typing import Any

import kqueue_model
import pytest

from greenthreads import Thread, run_scheduler, select, selectors, socket, yield_now

InThread = Callable[..., Any]


@pytest.fixture
def pair() -> Iterator[Any]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def asked_in_poll(reader: Any, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    return poll.poll(None if timeout is None else timeout * 1000) == [(reader.fileno(), select.POLLIN)]


def asked_in_epoll(reader: Any, timeout: float | None) -> bool:
    with select.epoll() as epoll:
        epoll.register(reader, select.EPOLLIN)
        return epoll.poll(timeout) == [(reader.fileno(), select.EPOLLIN)]  # type: ignore[no-any-return]


def asked_in_select(reader: Any, timeout: float | None) -> bool:
    return select.select([reader], [], [], timeout) == ([reader], [], [])


def asked_in_selector(reader: Any, timeout: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        return [key.fileobj for key, _events in selector.select(timeout)] == [reader]


WAYS = [asked_in_select, asked_in_selector]
WAYS += [asked_in_poll] if hasattr(standard, "poll") else []
WAYS += [asked_in_epoll] if hasattr(standard, "epoll") else []


@pytest.mark.parametrize("ask", WAYS)
def test_what_is_there(in_thread: InThread, pair: Any, ask: Callable[..., bool]) -> None:
    pair[1].send(b"x")
    assert in_thread(ask, pair[0], None)
    assert in_thread(ask, pair[0], 0)


@pytest.mark.parametrize("ask", WAYS)
def test_nothing_in_time(in_thread: InThread, pair: Any, ask: Callable[..., bool]) -> None:
    assert not in_thread(ask, pair[0], 0.01)
    assert not in_thread(ask, pair[0], 0)


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("timeout", [None, 30])
def test_others_run_meanwhile(pair: Any, ask: Callable[..., bool], timeout: float | None) -> None:
    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda: record.append(ask(pair[0], timeout)))
        thread.start()
        for _ in range(5):
            yield_now()
        record.append("others run")
        pair[1].send(b"x")
        thread.join()

    run_scheduler(main)
    assert record == ["others run", True]


def test_several_at_once(in_thread: InThread, pair: Any) -> None:
    a, b = pair

    def body() -> Any:
        b.send(b"x")
        return select.select([a, b], [a, b], [a], 10)

    assert in_thread(body) == ([a], [a, b], [])


def test_a_list_may_change_while_it_is_asked(in_thread: InThread, pair: Any) -> None:
    """The standard function takes what is left of it."""

    class Shrinking:
        def fileno(self) -> int:
            things.pop()
            return pair[0].fileno()  # type: ignore[no-any-return]

    things: list[Any] = [Shrinking() for _ in range(10)]
    assert len(in_thread(select.select, [], things, [], 0)[1]) == 5


def test_a_file_on_a_disk_is_ready(in_thread: InThread, tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+b") as file:
        assert in_thread(select.select, [file], [file], [], 10) == ([file], [file], [])


@pytest.mark.parametrize(
    "arguments",
    [([1000], [], [], 0), ([-1], [], [], 0), ([object()], [], [], 0), ([], [], [], "x"), ([], [], [], -1), (1, [], [])],
)
def test_errors_are_the_standard_ones(in_thread: InThread, outcome: Callable[..., Any], arguments: Any) -> None:
    assert in_thread(outcome, select.select, *arguments) == outcome(standard.select, *arguments)


def test_a_loop_around_select_lets_others_run(pair: Any) -> None:
    count = 0
    pair[1].send(b"x")

    def main() -> None:
        nonlocal count
        done: list[bool] = []

        def tick() -> None:
            nonlocal count
            while not done:
                count += 1
                yield_now()

        thread = Thread(target=tick)
        thread.start()
        for _ in range(10):
            select.select([pair[0]], [], [], 0)
        done.append(True)
        thread.join()

    run_scheduler(main)
    assert count >= 9


@pytest.mark.skipif(not hasattr(standard, "epoll"), reason="needs epoll")
def test_an_epoll_is_as_the_standard_one(pair: Any) -> None:
    def main() -> None:
        epoll = select.epoll()
        assert not epoll.closed
        epoll.register(pair[0], select.EPOLLIN)
        with pytest.raises(FileExistsError):
            epoll.register(pair[0], select.EPOLLIN)
        epoll.modify(pair[0], select.EPOLLOUT)
        other = select.epoll.fromfd(os.dup(epoll.fileno()))
        assert other.poll(10) == [(pair[0].fileno(), select.EPOLLOUT)]
        epoll.unregister(pair[0])
        assert epoll.poll(0.001) == []
        with pytest.raises(TypeError):
            epoll.poll("x")
        other.close()
        epoll.close()
        assert epoll.closed
        with pytest.raises(ValueError, match="closed epoll"):
            epoll.poll(0)

    run_scheduler(main)


@pytest.mark.skipif(not hasattr(standard, "poll"), reason="needs poll")
def test_a_poll_is_as_the_standard_one(pair: Any, outcome: Callable[..., Any]) -> None:
    def main() -> None:
        ours, theirs = select.poll(), standard.poll()
        for poll in (ours, theirs):
            poll.register(pair[0])
            poll.modify(pair[0], select.POLLOUT)
        assert ours.poll(10) == theirs.poll(10) == [(pair[0].fileno(), select.POLLOUT)]
        for call in (
            lambda poll: poll.modify(1000, select.POLLIN),
            lambda poll: poll.unregister(1000),
            lambda poll: poll.register("x"),
            lambda poll: poll.poll("x"),
            lambda poll: poll.poll(1 << 40),
        ):
            assert outcome(call, ours) == outcome(call, theirs)
        ours.unregister(pair[0])
        assert ours.poll(1) == []

    run_scheduler(main)


def test_a_kqueue_is_as_the_standard_one(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a copy of the module that was imported where the system has one, or the model of one."""
    monkeypatch.setattr(standard, "kqueue", getattr(standard, "kqueue", kqueue_model.kqueue), raising=False)
    spec = importlib.util.spec_from_file_location("greenthreads_select_with_kqueue", select.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader, writer = pair
    add = getattr(standard, "kevent", kqueue_model.kevent)(reader.fileno())
    record: list[Any] = []

    def main() -> None:
        queue = module.kqueue()
        record.append(queue.control([add], 1, 0.001))
        thread = Thread(target=lambda: record.append([each.ident for each in queue.control(None, 5, None)]))
        thread.start()
        yield_now()
        record.append("others run")
        writer.send(b"x")
        thread.join()
        for wrong, error in ((-1, ValueError), ("x", TypeError)):
            with pytest.raises(error):
                queue.control(None, 1, wrong)
        queue.close()
        record.append(queue.closed)

    run_scheduler(main)
    assert record == [[], "others run", [reader.fileno()], True]


def test_all_names_are_there() -> None:
    for ours, theirs in ((select, standard), (selectors, standard_selectors)):
        names = [name for name in dir(theirs) if not name.startswith("_")]
        assert [name for name in names if not hasattr(ours, name)] == []
    assert issubclass(selectors.DefaultSelector, standard_selectors.BaseSelector)
