"""The pages about how it is built: what they name exists, and their map is the one that import-linter checks."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomlkit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tcptop_ops"
MAP = ROOT / "docs" / "architecture.md"
BUILDERS_PAGES = [
    ROOT / "CONTRIBUTING.md",
    MAP,
    ROOT / "docs" / "recipes.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
"""For who changes the program: what they name of it is named in full."""

PAGES = [*BUILDERS_PAGES, ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - set(BUILDERS_PAGES))]

FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}.*$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOPS = ("tcptop_ops", "tests", "docs", "screenshots", ".ci")
NAMED = re.compile(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, TOPS))})/[\w./-]*)(?::([A-Za-z_][\w.]*))?")
"""A path from the root of the checkout, and what is named in it: ``tcptop_ops/views/view.py:View.values``."""

FILE = re.compile(r"[\w./-]+\.(?:py|c|h|sh|tcss|tcptop|md)(?::.*)?")
MODULE = re.compile(rf"python -m ((?:{'|'.join(TOPS[:2])}|screenshots)[\w.]*)")
ROW = re.compile(r"^\| (\d*) *\| `(tcptop_ops/[\w./]+)` \|", re.MULTILINE)
"""A line of the map: the floor (empty inside another folder), and the folder or module."""

GLOSSARY = re.compile(r"^\| \*\*([^*]+)\*\* \| (.*) \| (.*) \|$", re.MULTILINE)


# --- what the pages name


def code_of(text: str) -> list[str]:
    """Return the parts of a page that are code: blocks, and what stands between backquotes."""
    blocks = FENCED.findall(text)
    prose = FENCED.sub("", text)
    return blocks + INDENTED.findall(prose) + INLINE.findall(prose)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return what a Python file defines: ``name`` at its top, ``Class.name`` in a class."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        tops = defined(node)
        found |= tops
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for part in node.body for name in defined(part)}
    return frozenset(found)


def defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement gives to something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


def has(path: Path, name: str) -> bool:
    """Return whether a file defines this name; of a file that is not Python, whether the word is in it."""
    if path.suffix == ".py":
        return name in names_in(path)
    return path.is_file() and re.search(rf"\b{re.escape(name)}\b", path.read_text()) is not None


@cache
def file_names() -> frozenset[str]:
    """Return the names of all files of the checkout, without their folders."""
    return frozenset(path.name for top in TOPS for path in (ROOT / top).rglob("*")) | {p.name for p in ROOT.iterdir()}


def missing_paths(text: str) -> list[str]:
    """Return the paths and names in them that a page tells of, and that are not there."""
    found = []
    for code in code_of(text):
        for path, name in NAMED.findall(code):
            there = ROOT / path.rstrip(".")
            if not there.exists() or (path.endswith("/") and not there.is_dir()):
                found.append(path)
            elif name and not has(there, name.rstrip(".")):
                found.append(f"{path}:{name}")
    return found


def shortened_paths(text: str) -> list[str]:
    """Return the files that are named without their folders, or with a part of them: those would escape the check."""
    named = [
        code for code in code_of(text) if FILE.fullmatch(code) and not code.startswith(tuple(f"{t}/" for t in TOPS))
    ]
    return [code for code in named if "/" in code or not (ROOT / code.partition(":")[0]).exists()]


def missing_files(text: str) -> list[str]:
    """Return the source files that a page names, in whatever way, and that are nowhere."""
    sources = [code for code in code_of(text) if re.fullmatch(r"[\w/-]+\.(?:py|c|sh)", code)]
    return [code for code in sources if Path(code).name not in file_names()]


def missing_modules(text: str) -> list[str]:
    """Return the modules that a page says to run, and that can't be."""
    found = {
        name: ROOT.joinpath(*name.rstrip(".").split(".")) for code in code_of(text) for name in MODULE.findall(code)
    }
    return [
        name
        for name, path in found.items()
        if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
    ]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links to files and headings that are not there."""
    found = []
    for link in LINK.findall(FENCED.sub("", text)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Look for every path, symbol, module and link of a page; a rename that forgot a page fails here."""
    text = page.read_text()
    assert missing_paths(text) == []
    assert missing_files(text) == []
    assert missing_modules(text) == []
    assert broken_links(page, text) == []


@pytest.mark.parametrize("page", BUILDERS_PAGES, ids=lambda page: page.name)
def test_a_file_is_named_from_the_root(page: Path) -> None:
    """Refuse half a path: it can not be looked for."""
    assert shortened_paths(page.read_text()) == []


def test_the_pages_name_much() -> None:
    """Make sure that the patterns above still find something in the pages."""
    found = [named for page in BUILDERS_PAGES for code in code_of(page.read_text()) for named in NAMED.findall(code)]
    assert len({path for path, _ in found}) > 100
    assert len({named for named in found if named[1]}) > 100


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`tcptop_ops/views/nothing.py`", "tcptop_ops/views/nothing.py"),
        ("`tcptop_ops/nowhere/`", "tcptop_ops/nowhere/"),
        ("`tcptop_ops/errors.py/`", "tcptop_ops/errors.py/"),
        ("`tcptop_ops/views/columns.py:COLUMN`", "tcptop_ops/views/columns.py:COLUMN"),
        ("`tcptop_ops/views/view.py:View.nothing`", "tcptop_ops/views/view.py:View.nothing"),
        ("`tcptop_ops/bpf/sockops.c:on_nothing`", "tcptop_ops/bpf/sockops.c:on_nothing"),
        ("```\nkernel -> tcptop_ops/views/view.py:Views\n```", "tcptop_ops/views/view.py:Views"),
        ("    ./test tests/nothing", "tests/nothing"),
    ],
)
def test_what_is_not_there_is_found(text: str, wrong: str) -> None:
    """Try each way to name something that does not exist."""
    assert missing_paths(text) == [wrong]


def test_what_is_there_is_not_found() -> None:
    """Accept methods, enum members, words of C files and folders."""
    text = "`tcptop_ops/views/view.py:View.values` `tcptop_ops/bpf/sockops.c:on_rto` `tests/` `docs/architecture.md`"
    assert missing_paths(text) == []
    assert missing_paths("`tcptop_ops/views/columns.py:COLUMNS`, `tcptop_ops/model/enums.py:State.LISTEN`") == []


def test_a_part_of_a_path_is_found() -> None:
    """Try half paths, unknown files, modules that can not be run, and broken links."""
    assert shortened_paths("`views/view.py` `view.py:View` `pyproject.toml` `CONTRIBUTING.md`") == [
        "views/view.py",
        "view.py:View",
    ]
    assert missing_files("`view.py` `viewed.py` `seen.json`") == ["viewed.py"]
    assert missing_modules("`python -m tests.bench --quick` `python -m tests.nothing` `python -m venv`") == [
        "tests.nothing"
    ]
    assert broken_links(MAP, "[a](#the-map) [b](nothing.md) [c](https://example.org)") == ["nothing.md"]
    assert broken_links(MAP, "[a](diagnosis.md#findings) [b](diagnosis.md#nothing)") == ["diagnosis.md#nothing"]


# --- the map


def floors(text: str) -> dict[int, set[str]]:
    """Return the folders and modules of each floor of the map, the ground floor being 1."""
    found: dict[int, set[str]] = {}
    for floor, path in ROW.findall(text):
        if floor:
            found.setdefault(int(floor), set()).add(path.removeprefix("tcptop_ops/").rstrip("/").removesuffix(".py"))
    return found


def layers(pyproject: str) -> list[set[str]]:
    """Return the layers that import-linter checks, the lowest first."""
    contracts: list[dict[str, Any]] = tomlkit.parse(pyproject).unwrap()["tool"]["importlinter"]["contracts"]
    found = [one for one in contracts if one["type"] == "layers" and one["containers"] == ["tcptop_ops"]]
    assert len(found) == 1, "pyproject.toml must have one contract of layers for the package"
    return [{name.strip(" ()") for name in re.split(r"[|:]", layer)} for layer in reversed(found[0]["layers"])]


def test_the_map_is_what_the_imports_are_checked_by() -> None:
    """Compare the floors of the map with the layers in pyproject.toml."""
    drawn = floors(MAP.read_text())
    assert sorted(drawn) == list(range(1, len(drawn) + 1))
    assert [drawn[floor] for floor in sorted(drawn)] == layers((ROOT / "pyproject.toml").read_text())


def test_every_folder_is_in_the_map() -> None:
    """Refuse a folder or module that the map does not have, and one that it only has."""
    drawn = {path.rstrip("/") for _, path in ROW.findall(MAP.read_text())}
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    modules = {path for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert {str(path.relative_to(ROOT)) for path in folders | modules} == drawn


def test_layers_are_read_from_a_contract() -> None:
    """Read layers and floors of made-up pages; one without a contract of layers is an error."""
    text = """
        [[tool.importlinter.contracts]]
        name = "floors"
        type = "layers"
        containers = ["tcptop_ops"]
        layers = ["cli", "a | b", "c : (d)"]
        [[tool.importlinter.contracts]]
        name = "another"
        type = "forbidden"
    """
    assert layers(text) == [{"c", "d"}, {"a", "b"}, {"cli"}]
    assert floors("| 2 | `tcptop_ops/a/` | x |\n| | `tcptop_ops/a/b/` | x |\n| 1 | `tcptop_ops/text.py` | x |") == {
        2: {"a"},
        1: {"text"},
    }
    with pytest.raises(AssertionError):
        layers(text.replace("layers", "forbidden", 1))


def test_a_word_of_the_glossary_has_one_meaning_and_a_place() -> None:
    """Refuse a word that is explained twice, or that names no place in the code."""
    lines = GLOSSARY.findall(MAP.read_text().partition("## Glossary")[2])
    words = Counter(word.strip().lower() for names, _, _ in lines for word in names.split(","))
    assert len(lines) > 30
    assert [word for word, count in words.items() if count > 1] == []
    assert [names for names, _, where in lines if not NAMED.search(where)] == []
