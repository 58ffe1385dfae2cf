"""What holds for every module: what tests import, how large modules and classes may be, and that each has a docstring.

There is no list of exceptions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "tcptop_ops", ROOT / "tests"
TOOLS = (ROOT / ".ci", ROOT / "screenshots")
MOST_LINES = 450
MOST_METHODS = 40


def modules(folder: Path) -> list[Path]:
    """Return the modules in a folder and all below it."""
    return sorted(folder.rglob("*.py"))


def dotted(module: Path) -> str:
    """Return the name by which a module is imported; of a package, the package's."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, package: str) -> set[str]:
    """Return all that a source in this package may import: modules, and each name of a ``from`` as if it were one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            found |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    return found


def lines(source: str) -> int:
    """Return how many lines a module has."""
    return len(source.splitlines())


def classes(source: str) -> Iterator[tuple[str, int]]:
    """Yield each class, nested ones too, and how many methods are its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            yield node.name, sum(isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) for each in node.body)


def folders() -> list[str]:
    """Return the folders directly in the package that hold modules, or have some further below."""
    below = [module.relative_to(PACKAGE).parts for module in modules(PACKAGE)]
    return sorted({parts[0] for parts in below if len(parts) > 1})


def test_there_is_something_to_look_at() -> None:
    assert len(modules(PACKAGE)) > 50
    assert len(modules(TESTS)) > 50
    assert "bpf" in folders()


def test_no_test_module_imports_another() -> None:
    """What two of them need is in ``tests/support``."""
    every = {dotted(module) for module in modules(TESTS) if module.name.startswith("test_")}
    wrong = {
        dotted(module): sorted(every & imported(module.read_text(), dotted(module.parent))) for module in modules(TESTS)
    }
    assert {module: found for module, found in wrong.items() if found} == {}


def test_no_module_is_too_long() -> None:
    counted = {dotted(module): lines(module.read_text()) for module in modules(PACKAGE) + modules(TESTS)}
    assert {module: count for module, count in counted.items() if count > MOST_LINES} == {}


def test_no_class_has_too_many_methods() -> None:
    counted = {
        f"{dotted(module)}.{name}": count for module in modules(PACKAGE) for name, count in classes(module.read_text())
    }
    assert {name: count for name, count in counted.items() if count > MOST_METHODS} == {}


def test_each_folder_has_tests_in_a_folder_of_that_name() -> None:
    assert [folder for folder in folders() if not list((TESTS / folder).rglob("test_*.py"))] == []


def test_each_module_says_what_it_is_for() -> None:
    every = [module for folder in (PACKAGE, *TOOLS) for module in modules(folder)]
    assert [str(module) for module in every if not ast.get_docstring(ast.parse(module.read_text()))] == []


@pytest.mark.parametrize(
    "source",
    [
        "from tests.app.test_x import y",
        "import tests.app.test_x",
        "from tests.app import test_x",
        "from . import test_x",
        "from .test_x import y",
        "from ..app.test_x import y",
        "def f():\n    from tests.app.test_x import y",
    ],
)
def test_an_import_is_found_however_it_is_written(source: str) -> None:
    assert "tests.app.test_x" in imported(source, "tests.app")


def test_methods_are_those_of_the_class_alone() -> None:
    source = """
class A:
    def f(self):
        def g(): ...
    class B:
        def h(self): ...
        def i(self): ...
"""
    assert dict(classes(source)) == {"A": 1, "B": 2}
