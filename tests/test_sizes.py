"""Functions stay small: in lines, and in how often they branch."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("hero_engine", "aether", "nodes", "evaluation", "training", "benchmarks", "scripts")
LINES, BRANCHES, MEDIAN = 50, 12, 10
TABLES = ("define_schema", "build_parser", "_add_", "add_")
"""Beginnings of the names of functions that are tables of inputs: long, and read from top to bottom."""
BRANCHING = (
    ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.BoolOp, ast.comprehension,
)  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> dict[str, Function]:
    """Every function outside of the tests, by file and name."""
    found: dict[str, Function] = {}
    for file in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                found[f"{file.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}"] = node
    return found


def lines(function: Function) -> int:
    """Of the body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def branches(function: Function) -> int:
    return sum(isinstance(node, BRANCHING) for node in ast.walk(function))


def over(measure, most: int) -> dict[str, int]:
    """The functions that are larger than allowed, with their size."""
    return {
        name: measure(function)
        for name, function in functions().items()
        if measure(function) > most and not function.name.startswith(TABLES)
    }


def test_branches_are_counted():
    text = "def f(a):\n 'words'\n if a and a:\n  return [b for b in a]\n return 1 if a else 2\n"
    function = ast.parse(text).body[0]
    assert (branches(function), lines(function)) == (4, 3)


def test_the_median_function_is_short():
    assert statistics.median(map(lines, functions().values())) < MEDIAN


def test_no_function_is_long():
    assert over(lines, LINES) == {}


def test_no_function_branches_often():
    assert over(branches, BRANCHES) == {}
