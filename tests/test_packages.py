"""Packages import one way, app <- evaluate <- training <- experiments, and say what they take."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "evaluate", "training", "experiments")


def imported(path):
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_none_that_is_built_on_it(package):
    later = PACKAGES[PACKAGES.index(package) + 1 :]
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    for path in modules:
        assert not set(imported(path)) & set(later), path


def test_the_evaluator_knows_no_network_but_to_measure_it():
    for path in sorted((ROOT / "evaluate").rglob("*.py")):
        names = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        knows = any(name.startswith(("app.network", "app.segmenter")) for name in names)
        assert knows == (path.name == "efficiency.py"), path


def public_functions(body):
    """The public functions in the body of a module, and the public methods of its classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not (
            node.name.startswith("_") and node.name != "__init__"
        ):
            yield node


@pytest.mark.parametrize("package", ["app", "evaluate"])
def test_public_functions_say_what_they_take_and_give(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        for function in public_functions(ast.parse(path.read_text()).body):
            given = [*function.args.args, *function.args.kwonlyargs]
            bare = [each.arg for each in given if each.annotation is None]
            assert set(bare) <= {"self", "cls"}, f"{path}: {function.name}: {bare}"
            given_back = function.returns is not None or function.name == "__init__"
            assert given_back, f"{path}: {function.name}"


def test_links_of_the_documents_lead_somewhere():
    documents = [path for path in ROOT.rglob("*.md") if path.relative_to(ROOT).parts[0][0] != "."]
    assert len(documents) > 5
    for path in documents:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path}: {target}"
