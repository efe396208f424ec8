"""Programs to instrument: written to a file, imported, called plain and instrumented, and heard."""

from __future__ import annotations

import importlib
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from greenthreads.testing.instrument import instrumented
from scheduler import control
from scheduler.control import Footprint


class Heard(list[str]):
    """What was announced, a line each: the object's type, then each part with r or w. Values told begin with `=`."""

    def access(self, obj: object, footprint: Footprint) -> None:
        parts = " ".join(f"{part if isinstance(part, str) else repr(part)}:{'rw'[write]}" for part, write in footprint)
        self.append(f"{type(obj).__name__} {parts}")

    def accesses(self, pairs: tuple[tuple[object, Footprint], ...]) -> None:
        before = len(self)
        for obj, footprint in pairs:
            self.access(obj, footprint)
        self[before:] = [" & ".join(self[before:])]

    def note(self, value: object) -> None:
        self.append(f"= {value!r}")


def outcome_of(function: Callable[..., object], *args: Any) -> tuple[object, ...]:
    """What a call returns; or what it raises, with its traceback's places, and the text that Python prints."""
    try:
        return "returned", function(*args)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        places = [(each.name, each.lineno, getattr(each, "colno", None), each.line) for each in frames]
        return type(error), str(error), places


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Write a module's source to a file and import it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def loaded(source: str, name: str = "") -> ModuleType:
        name = name or f"program_{len(names)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        names.append(name)
        return importlib.import_module(name)

    yield loaded
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def hear(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function with a module instrumented: the outcome, and what was announced."""

    def call(module: ModuleType, function: Callable[..., object], *args: Any, notes: bool = False) -> Any:
        heard = Heard()
        with instrumented([module.__name__], notes=notes), monkeypatch.context() as patch:
            patch.setattr(control, "access", heard.access)
            patch.setattr(control, "accesses", heard.accesses)
            if notes:
                patch.setattr(control, "note", heard.note)
            outcome = outcome_of(function, *args)
        return outcome, heard

    return call


@pytest.fixture
def check(load: Callable[..., ModuleType], hear: Callable[..., Any]) -> Callable[..., list[str]]:
    """Run `run()` of a program plain, instrumented, and instrumented with notes: same outcome, same announcements."""

    def checked(source: str, raises: type[Exception] | None = None) -> list[str]:
        plain = outcome_of(load(source).run)
        assert plain[0] is (raises or plain[0])
        module = load(source)
        outcome, heard = hear(module, module.run)
        assert outcome == plain
        module = load(source)
        outcome, told = hear(module, module.run, notes=True)
        assert outcome == plain
        assert [each for each in told if not each.startswith("=")] == heard
        return list(heard)

    return checked
