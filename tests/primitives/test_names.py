"""Name by name: what the standard modules of the running Python have, this library has, and calls alike."""

from __future__ import annotations

import _thread
import inspect
import queue
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import greenthreads
import greenthreads._thread
import greenthreads.futures
import greenthreads.queue
import greenthreads.time

# What happens to be there because the module needs it.
NOT_THREADING_S = {"WeakSet"}
# `local` hands all arguments to a subclass; `start_new_thread`'s text says nothing of the default that it has; and
# pytest puts a hook of its own in the place of threading's.
NOT_COMPARED = {"local", "_local", "start_new", "start_new_thread", "excepthook"}


def public(module: ModuleType) -> set[str]:
    """The names of a module that do not say that they are private, and that it has not merely imported."""
    names = {name for name in vars(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))}
    return names | set(getattr(module, "__all__", ()))


THREADING = sorted(public(threading) - NOT_THREADING_S | {"__excepthook__"})
QUEUE = sorted(queue.__all__)
C_THREAD = sorted(name for name in vars(_thread) if not name.startswith("__"))
LOCK = type(_thread.allocate_lock())


@pytest.mark.parametrize("name", THREADING)
def test_greenthreads_has_the_names_of_threading(name: str) -> None:
    assert hasattr(greenthreads, name)
    assert name in greenthreads.__all__


@pytest.mark.parametrize("name", QUEUE)
def test_greenthreads_queue_has_the_names_of_queue(name: str) -> None:
    assert hasattr(greenthreads.queue, name)
    assert name in greenthreads.queue.__all__


@pytest.mark.parametrize("name", C_THREAD)
def test_greenthreads_thread_has_the_names_of_the_c_module(name: str) -> None:
    assert hasattr(greenthreads._thread, name)


def parameters(function: Any) -> list[inspect.Parameter] | None:
    """A function's parameters; None if it does not tell, as some in C do not."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def differences(ours: Any, standard: Any) -> list[str]:
    """Calls that the standard function takes and ours does not."""
    expected, mine = parameters(standard), parameters(ours)
    if expected is None or mine is None:
        return []
    found = []
    for place, parameter in enumerate(expected):
        if place >= len(mine) or mine[place].name != parameter.name:
            found.append(f"no {parameter} in place {place}")
        elif mine[place].default != parameter.default:
            found.append(f"{mine[place]} has another default than {parameter}")
        elif parameter.kind not in (mine[place].kind, inspect.Parameter.POSITIONAL_ONLY):
            found.append(f"{mine[place].name} is {mine[place].kind.description}")
    added = mine[len(expected) :]
    found += [f"{each} is needed" for each in added if each.default is each.empty and each.kind not in _STARS]
    return found


_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def pairs() -> Iterator[tuple[str, Any, Any]]:
    """Everything that can be called: where it is, ours, the standard one."""
    for module, ours, names in (
        (threading, greenthreads, THREADING),
        (queue, greenthreads.queue, QUEUE),
        (_thread, greenthreads._thread, C_THREAD),
    ):
        for name in names:
            standard, mine = getattr(module, name), getattr(ours, name)
            if callable(standard) and name not in NOT_COMPARED:
                yield f"{module.__name__}.{name}", mine, standard
            if inspect.isclass(standard):
                yield from methods(f"{module.__name__}.{name}", mine, standard)
    yield from methods("lock", greenthreads.Lock, LOCK)
    yield from methods("RLock", greenthreads.RLock, _thread.RLock)


def methods(where: str, ours: Any, standard: Any) -> Iterator[tuple[str, Any, Any]]:
    for name in dir(standard):
        if not name.startswith("_"):
            yield f"{where}.{name}", getattr(ours, name, None), getattr(standard, name)


PAIRS = {where: (ours, standard) for where, ours, standard in pairs()}


@pytest.mark.parametrize("where", PAIRS)
def test_it_is_called_as_the_standard_one(where: str) -> None:
    ours, standard = PAIRS[where]
    assert ours is not None or standard is None
    assert callable(ours) == callable(standard)
    assert differences(ours, standard) == []


def test_a_missing_or_a_different_one_would_be_found() -> None:
    def standard(self: object, block: bool = True, timeout: float | None = None) -> None: ...

    def renamed(self: object, blocking: bool = True, timeout: float | None = None) -> None: ...

    def another_default(self: object, block: bool = True, timeout: float = -1) -> None: ...

    def one_more(self: object, block: bool = True, timeout: float | None = None, *, kind: str) -> None: ...

    def fewer(self: object, block: bool = True) -> None: ...

    assert [differences(ours, standard) for ours in (standard, renamed, another_default, one_more, fewer)] == [
        [],
        ["no block: 'bool' = True in place 1"],
        ["timeout: 'float' = -1 has another default than timeout: 'float | None' = None"],
        ["kind: 'str' is needed"],
        ["no timeout: 'float | None' = None in place 2"],
    ]


def test_what_is_the_same_thing_is_the_same_object() -> None:
    assert greenthreads.TIMEOUT_MAX == threading.TIMEOUT_MAX
    assert greenthreads.ThreadError is threading.ThreadError is greenthreads._thread.error
    assert greenthreads.BrokenBarrierError is threading.BrokenBarrierError
    assert greenthreads.ExceptHookArgs is threading.ExceptHookArgs
    assert greenthreads.__excepthook__ is threading.__excepthook__
    assert greenthreads.stack_size is threading.stack_size
    assert (greenthreads.Empty, greenthreads.Full) == (queue.Empty, queue.Full)
    assert greenthreads.ShutDown is getattr(queue, "ShutDown", greenthreads.ShutDown)


def test_star_imports_give_what_all_promises() -> None:
    for module in (greenthreads, greenthreads.queue, greenthreads.futures, greenthreads._thread, greenthreads.time):
        namespace: dict[str, Any] = {}
        exec(f"from {module.__name__} import *", namespace)
        assert [name for name in module.__all__ if name not in namespace] == []
