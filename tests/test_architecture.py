"""The plan of the house holds: an import only ever points down, and rooms stay small enough to be read."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "zooconv"

# From the top floor down. A room may call its own floor and those below; CONTRIBUTING.md tells what each is for.
FLOORS = [
    {"cli", "__main__", "testing", "scaffold"},
    {"card", "detectron2"},
    {"artifacts"},
    {"subject", "diff"},
    {"batch"},
    {"pipeline", "parity", "doctor", "repair"},
    {"conversion", "inspection", "verify", "report", "page", "provenance"},
    {"names", "address", "zoo", "plugins", "reference", "hookspecs", "hub", "sources", "partial", "recognise",
     "original", "execute", "audit", "canonical", "certificate", "check", "load_check", "lock", "place", "registry",
     "journal", "engine", "reread", "d2config", "modules", "upstream"},
    {"mapping", "checkpoint"},
    {"atomic", "digest", "errors", "files", "finite", "options", "output", "pump", "settings", "tensor", "words"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(path):
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported(path):
    """The rooms that a module imports, anywhere in it, also for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zooconv":
            parts = node.module.split(".")[1:]
            yield from parts[:1] or [alias.name for alias in node.names if alias.name in FLOOR]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("zooconv."))


MODULES = [p for p in sorted(HOUSE.rglob("*.py")) if p != HOUSE / "__init__.py"]


def test_every_room_has_a_floor():
    assert {room(p) for p in MODULES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_an_import_only_ever_points_down(path):
    above = {r for r in imported(path) if FLOOR[r] < FLOOR[room(path)]}
    assert above == set()


def test_mapping_and_checkpoint_do_not_know_each_other():
    pairs = {(room(p), r) for p in MODULES for r in imported(p)}
    assert {("mapping", "checkpoint"), ("checkpoint", "mapping")} & pairs == set()


def test_no_room_leads_back_to_itself():
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        source = ast.parse(path.read_text())
        for node in source.body:  # what is imported for types alone is not imported
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zooconv."):
                graph.setdefault(room(path), set()).add(node.module.split(".")[1])
    order = TopologicalSorter({name: needs - {name} for name, needs in graph.items()})
    assert list(order.static_order())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_torch_is_imported_inside_functions_and_only_where_it_is_needed(path):
    tree = ast.parse(path.read_text())
    heavy = {"torch", "numpy", "huggingface_hub", "safetensors", "ruamel", "rich", "psutil"}
    allowed = {"numpy"} if room(path) == "testing" else set()
    for node in tree.body:
        names = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                 else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        assert {name.split(".")[0] for name in names} & (heavy - allowed) == set()
    imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert "torch" not in imports or room(path) in ("load_check", "testing", "modules", "parity", "upstream", "diff")


def test_the_framework_names_no_architecture():
    for path in MODULES:
        if room(path) != "testing":
            code = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
            literals = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)
                        and isinstance(n.value, str) and not n.value.count(" ")]
            assert not [text for text in literals if text.lower() in ("convnext", "swin", "resnet", "vit")], path


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "plugins").rglob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_small_and_its_functions_fit_on_a_screen(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_most_modules_are_below_150_lines():
    sizes = sorted(len(p.read_text().splitlines()) for p in MODULES)
    assert sizes[len(sizes) // 2] <= 120
    assert sum(size > 150 for size in sizes) <= len(sizes) // 3
