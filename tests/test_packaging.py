"""What is installed is what pyproject.toml and the README say."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import greenthreads
import scheduler

# Python 3.10 has no tomllib; tomli is the same parser. To go with 3.10.
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]


@pytest.fixture(scope="module")
def installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("greenthreads")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("greenthreads is importable but not installed: pip install -e '.[test]'")


def modules() -> list[ModuleType]:
    """Import every module of both packages, save the one that runs the command."""
    found = []
    for package in (scheduler, greenthreads):
        inner = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        names = [package.__name__, *(info.name for info in inner)]
        found += [importlib.import_module(each) for each in names if "__main__" not in each]
    return found


def public(module: ModuleType) -> bool:
    return not any(part.startswith("_") for part in module.__name__.split("."))


# Metadata.


def test_the_version_is_the_same_everywhere(installed: importlib.metadata.Distribution) -> None:
    assert installed.version == PROJECT["version"] == greenthreads.__version__


def test_greenlet_is_the_only_dependency(installed: importlib.metadata.Distribution) -> None:
    required = [each for each in installed.requires or [] if "extra ==" not in each]
    assert required == ["greenlet>=3.1.1"]


def test_the_supported_pythons_agree(installed: importlib.metadata.Distribution) -> None:
    assert installed.metadata["Requires-Python"] == ">=3.10"
    prefix = "Programming Language :: Python :: "
    classifiers = installed.metadata.get_all("Classifier") or []
    versions = [each.removeprefix(prefix) for each in classifiers if each.startswith(prefix + "3.")]
    assert versions == ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]


def test_every_extra_is_installable(installed: importlib.metadata.Distribution) -> None:
    extras = installed.metadata.get_all("Provides-Extra") or []
    assert sorted(extras) == ["bench", "dev", "examples", "groups", "gunicorn", "integration", "test", "top"]


# The packages.


@pytest.mark.parametrize("package", ["greenthreads", "scheduler"])
def test_a_package_is_typed(package: str) -> None:
    assert (files(package) / "py.typed").is_file()


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_public_names_exist_and_are_documented(module: ModuleType) -> None:
    if public(module):
        assert module.__doc__, f"{module.__name__} does not say what it is for"
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names), "a name stands in __all__ twice"
    missing = [name for name in names if not hasattr(module, name)]
    assert missing == [], f"{module.__name__}.__all__ promises what is not there"
    assert undocumented(module, names) == []


def undocumented(module: ModuleType, names: list[str]) -> list[str]:
    """Return those of `names` that are classes or functions of this project without a docstring."""
    return [
        name
        for name in names
        if (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value))
        and (value.__module__ or "").split(".")[0] in {"scheduler", "greenthreads"}
        and not (value.__doc__ or "").strip()
    ]


def test_a_missing_docstring_is_found() -> None:
    module = ModuleType("greenthreads.made_up")
    source = "class A: 'Doc.'\nclass B(A): pass\ndef f(): 'Doc.'\ndef g(): pass\nN = 1"
    exec(source, vars(module) | {"__name__": module.__name__}, names := {})
    vars(module).update(names)
    assert undocumented(module, ["A", "B", "f", "g", "N"]) == ["B", "g"]


@pytest.mark.parametrize("package", [scheduler, greenthreads], ids=lambda package: package.__name__)
def test_a_package_lists_its_public_names(package: ModuleType) -> None:
    listed = set(package.__all__)
    assert {"run_scheduler", "yield_now", "sleep", "Scheduler", "Deadlock"} <= listed


def test_the_engine_is_reached_through_both_packages() -> None:
    for name in ("run_scheduler", "yield_now", "sleep", "Scheduler", "Deadlock"):
        assert getattr(greenthreads, name) is getattr(scheduler, name), name


# The command.


def test_the_command_is_installed(installed: importlib.metadata.Distribution) -> None:
    scripts = [each for each in installed.entry_points if each.group == "console_scripts"]
    assert [(each.name, each.value) for each in scripts] == [
        ("run_scheduler", "greenthreads.cli:main")
    ]
    assert callable(scripts[0].load())


def test_pytest_finds_the_plugin() -> None:
    plugins = PROJECT["entry-points"]["pytest11"]
    # Its name is that of its module, so that `-p` and the entry point name one plugin.
    assert plugins == {"_greenthreads_pytest": "_greenthreads_pytest"}
    assert callable(importlib.import_module("_greenthreads_pytest").pytest_runtest_setup)


def test_the_command_runs_as_a_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "greenthreads", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "run_scheduler" in ran.stdout


# The README.


def test_the_example_of_the_readme_prints_what_it_says() -> None:
    found = re.search(r"^```python\n((?:.*\n)+?)```\n\n((?: {4}.*\n)+)", README, re.MULTILINE)
    assert found, "README.md has no Python example followed by its output"
    example, output = found.groups()
    ran = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout == "".join(line[4:] for line in output.splitlines(keepends=True))


def test_the_readme_has_the_two_commands() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    programs = [command.split()[-1] for command in commands]
    assert programs == ["examples/mixed_index.py", "pytest"]
    extras = {extra for command in commands for extra in re.findall(r"'\.\[(\w+)\]'", command)}
    assert extras <= set(PROJECT["optional-dependencies"])
