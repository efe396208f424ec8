"""Imports point one way, and only one file knows greenlet.

    greenthreads.pytest_plugin -> greenthreads.testing -> greenthreads -> scheduler -> greenlet

The sources are parsed, not imported: an import inside a function or behind a condition counts
too. They are found where Python finds the packages, so an installed wheel is checked as well as
a checkout. Each rule is a function from sources to complaints, and each is shown a violation.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("scheduler", "greenthreads")

# From the bottom up. A module may import from its own layer and from those below it.
LAYERS = (
    "greenlet",
    "scheduler",
    "greenthreads",
    "greenthreads.testing",
    "greenthreads.pytest_plugin",
)

# The command starts the harness as well as programs, so it may look up into it.
MAY_IMPORT_TESTING = {"greenthreads.cli"}

# pytest itself loads the plugin, so there it is no extra.
MAY_IMPORT_PYTEST = {"greenthreads.pytest_plugin"}


@dataclass(frozen=True)
class Import:
    """One imported module, as written in `importer` at `line`."""

    importer: str
    target: str
    line: int
    # Whether it is carried out, and must succeed, for the importing module to load.
    at_load: bool


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    return list(_walk(ast.parse(source), module, is_package, at_load=True))


def _walk(node: ast.AST, module: str, is_package: bool, at_load: bool) -> Iterator[Import]:
    for target in _targets(node, module, is_package):
        yield Import(module, target, node.lineno, at_load)  # type: ignore[attr-defined]
    for field, value in ast.iter_fields(node):
        inner = at_load and not _optional(node, field)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, module, is_package, inner)


def _targets(node: ast.AST, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".") if is_package else module.split(".")[:-1]
            package = package[: len(package) - node.level + 1]
            base = ".".join([*package, *([base] if base else [])])
        # `from package import name` may mean a submodule; the layer rules need to see it.
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rsplit(".", 1)[-1]
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def _optional(node: ast.AST, field: str) -> bool:
    """Whether `field` of `node` holds code that may stay undone when the module loads."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return field == "body"
    if isinstance(node, ast.If):
        condition = ast.unparse(node.test)
        return field == "body" and condition in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    if isinstance(node, ast.Try):
        caught = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
        guarded = re.search(r"\b(ImportError|ModuleNotFoundError)\b", caught)
        return field == "body" and guarded is not None
    return False


def layer(module: str) -> int | None:
    """Return the height of the layer that `module` belongs to; None for a module of no layer."""
    for height, prefix in reversed(list(enumerate(LAYERS))):
        if module == prefix or module.startswith(prefix + "."):
            return height
    return None


def upward(imports: list[Import]) -> list[str]:
    complaints = []
    for each in imports:
        source, target = layer(each.importer), layer(each.target)
        if source is None or target is None or target <= source:
            continue
        if LAYERS[target] == "greenthreads.testing" and each.importer in MAY_IMPORT_TESTING:
            continue
        where = f"{each.importer}:{each.line}"
        complaints.append(f"{where} imports {each.target}, which stands above it")
    return sorted(set(complaints))


def importers_of_greenlet(imports: list[Import]) -> list[str]:
    return sorted({each.importer for each in imports if each.target.split(".")[0] == "greenlet"})


def required_extras(imports: list[Import]) -> list[str]:
    known = {"greenlet", *PACKAGES, *sys.stdlib_module_names}
    complaints = []
    for each in imports:
        top = each.target.split(".")[0]
        if not each.at_load or top in known:
            continue
        if top in {"pytest", "_pytest"} and each.importer in MAY_IMPORT_PYTEST:
            continue
        complaints.append(f"{each.importer}:{each.line} cannot load without {top}")
    return sorted(set(complaints))


# Spelled so that this file does not match itself.
FOREIGN = re.compile(
    r"(?<![\w.~}])/(?:home|root|Users|work|tmp)/[\w.]+"  # a folder of one machine
    r"|\b[A-Za-z]:\\+Users\b"
    r"|\b(?:pypi\.org|pythonhosted\.org)|-index-[u]rl\b",  # where one machine gets its packages
)


def foreign_places(name: str, text: str) -> list[str]:
    return [
        f"{name}:{number} names {found.group()}"
        for number, line in enumerate(text.splitlines(), start=1)
        for found in FOREIGN.finditer(line)
    ]


def package_files() -> dict[str, Path]:
    """Return the source file of each module of both packages."""
    modules = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec, f"{package} is not importable"
        for folder in map(Path, spec.submodule_search_locations or []):
            for path in sorted(folder.rglob("*.py")):
                parts = [package, *path.relative_to(folder).with_suffix("").parts]
                modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


def project_files() -> list[Path]:
    """Return what git tracks; without git, the packages and what lies beside the tests."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if listed.returncode == 0:
            paths = [ROOT / name for name in listed.stdout.split("\0") if name]
            return [path for path in paths if path.is_file()]
    beside = [path for path in ROOT.rglob("*") if path.is_file()]
    return [*package_files().values(), *(each for each in beside if each.suffix != ".pyc")]


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    found = []
    for module, path in package_files().items():
        source = path.read_text(encoding="utf-8")
        found += imports_of(module, source, is_package=path.name == "__init__.py")
    assert found
    return found


def test_imports_point_downward(imports: list[Import]) -> None:
    assert upward(imports) == []


def test_one_file_imports_greenlet(imports: list[Import]) -> None:
    assert importers_of_greenlet(imports) == ["scheduler.continuation"]


def test_no_extra_is_needed_to_load_a_module(imports: list[Import]) -> None:
    assert required_extras(imports) == []


def test_no_file_names_a_place_of_one_machine() -> None:
    complaints = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        complaints += foreign_places(path.name, text)
    assert complaints == []


# What the rules see, and that they do complain.


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("scheduler.loop", "import greenthreads", "greenthreads"),
        ("scheduler.loop", "def f():\n    from greenthreads.patch import a", "greenthreads.patch"),
        ("scheduler.task", "if TYPE_CHECKING:\n    import greenthreads", "greenthreads"),
        ("greenthreads.thread", "from . import testing", "greenthreads.testing"),
        ("greenthreads.thread", "from .testing.explore import run", "greenthreads.testing.explore"),
        ("greenthreads.thread", "import_module('greenthreads.testing')", "greenthreads.testing"),
        ("greenthreads.testing.run", "from .. import pytest_plugin", "greenthreads.pytest_plugin"),
        ("greenthreads.cli", "from . import pytest_plugin", "greenthreads.pytest_plugin"),
    ],
)
def test_an_upward_import_is_found(module: str, source: str, complaint: str) -> None:
    found = upward(imports_of(module, source))
    line = source.count("\n") + 1
    assert f"{module}:{line} imports {complaint}, which stands above it" in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("scheduler.loop", "from . import task\nfrom .timers import Timers"),
        ("greenthreads.thread", "from scheduler import run_scheduler\nfrom ._time import sleep"),
        ("greenthreads.testing.run", "from greenthreads import Thread\nfrom ..queue import Queue"),
        ("greenthreads.pytest_plugin", "from .testing import explore"),
        ("greenthreads.cli", "def main():\n    from .testing import explore"),
        ("greenthreads.thread", "import threading, scheduler_of_someone_else"),
    ],
)
def test_a_downward_import_is_not(module: str, source: str) -> None:
    assert upward(imports_of(module, source)) == []


def test_relative_imports_are_resolved() -> None:
    source = "from . import a\nfrom .b import c\nfrom ..d import e"
    targets = [each.target for each in imports_of("p.q.r", source)]
    assert targets == ["p.q", "p.q.a", "p.q.b", "p.q.b.c", "p.d", "p.d.e"]
    targets = [each.target for each in imports_of("p.q", "from .b import c", is_package=True)]
    assert targets == ["p.q.b", "p.q.b.c"]


@pytest.mark.parametrize(
    "source", ["import greenlet", "from greenlet import getcurrent", "__import__('greenlet')"]
)
def test_a_second_importer_of_greenlet_is_found(source: str) -> None:
    assert importers_of_greenlet(imports_of("greenthreads.local", source)) == ["greenthreads.local"]


@pytest.mark.parametrize(
    "source",
    [
        "import rich",
        "class C: from rich.table import Table",
        "def f(x=__import__('rich')): ...",
        "try: import rich\nexcept ValueError: ...",
        "try: ...\nexcept ImportError: ...\nelse: import rich",
        "if TYPE_CHECKING: ...\nelse: import rich",
    ],
)
def test_an_extra_needed_at_load_is_found(source: str) -> None:
    line = source.count("\n") + 1 if "else" in source else 1
    complaints = required_extras(imports_of("greenthreads.cli", source))
    assert complaints == [f"greenthreads.cli:{line} cannot load without rich"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(): import rich",
        "if TYPE_CHECKING: import rich",
        "try: import rich\nexcept ImportError: rich = None",
        "import greenlet, sys, scheduler",
    ],
)
def test_an_extra_that_may_be_absent_is_not(source: str) -> None:
    assert required_extras(imports_of("greenthreads.cli", source)) == []


def test_pytest_is_no_extra_in_its_own_plugin() -> None:
    assert required_extras(imports_of("greenthreads.pytest_plugin", "import pytest")) == []
    assert required_extras(imports_of("greenthreads.testing", "import pytest")) != []


@pytest.mark.parametrize("folder", ["home", "root", "Users", "work", "tmp"])
def test_a_machine_path_is_found(folder: str) -> None:
    path = f"/{folder}/someone"
    assert foreign_places("f", f"x\ncd {path}/project") == [f"f:2 names {path}"]
    assert foreign_places("f", f"cd ~{path} https://example.org{path} a{path}") == []
