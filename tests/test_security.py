"""What nothing that is shipped may do: run text as code, open pickles, start processes, use the network,
write outside ComfyUI's folders, put unescaped text into a page.

Python is read as a syntax tree with its imports resolved, JavaScript by tree-sitter. What is forbidden may
not even be named, so that an alias does not hide it. Exceptions are listed with their reasons; one that is
no longer needed fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hero_engine", "aether", "nodes", "evaluation", "benchmarks", "scripts")
# Run by developers on their own machines; not part of a node pack or of the wheel.
FOR_DEVELOPERS = {"scripts/mutations.py"}

EXCEPTIONS = {
    ("aether/model/hub.py", "huggingface_hub"): "fetches models by name, over HTTPS, safetensors only",
    ("evaluation/compare/work.py", "multiprocessing"): "the command's own workers, --workers of them",
    ("benchmarks/comfyui.py", "importlib"): "loads this pack the way ComfyUI does",
    ("benchmarks/gpu/worker.py", "multiprocessing"): "a part that breaks its process must not end the others",
    ("benchmarks/gpu/settings.py", "compile"): "an argument of that name, for torch.compile",
    ("benchmarks/contenders.py", "importlib"): "looks whether a package is there",
    ("hero_engine/speed/optimization.py", "compile"): "an argument of that name, for torch.compile",
    ("hero_engine/__init__.py", "importlib"): "loads its own modules by a fixed table when first asked",
    ("hero_engine/methods.py", "importlib"): "loads what runs a method by a fixed table",
    ("hero_engine/models/families.py", "importlib"): "loads a family's adapter by a fixed table",
    ("nodes/bridge/prediction_route.py", "aiohttp"): "answers on ComfyUI's own server; opens no connection",
    ("nodes/bridge/measurements.py", "rmtree"): "its own oldest folders, in ComfyUI's user folder",
    ("nodes/camera_path.py", "write_cameras"): "below output_stem, which refuses other folders",
}

MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("subprocess", "pty", "multiprocessing", "ctypes", "cffi", "code", "codeop", "runpy"),
    *("socket", "socketserver", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp"),
    *("websockets", "ftplib", "smtplib", "telnetlib", "xmlrpc", "huggingface_hub", "pip", "importlib", "imp"),
}
NAMES = {
    *("eval", "exec", "compile", "__import__", "breakpoint", "builtins", "__builtins__"),
    *("torch.load", "torch.hub", "torch.package", "torch.jit.load", "numpy.fromregex", "pandas.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "os.fork", "os.startfile"),
    *(f"os.{kind}{form}" for kind in ("exec", "spawn") for form in ("l", "le", "lp", "v", "ve", "vp")),
    *("transformers.pipeline", "diffusers.DiffusionPipeline"),
}
MUST_BE_FALSE = {"allow_pickle", "trust_remote_code", "shell"}
MUST_BE_TRUE = {"weights_only", "use_safetensors"}
# The nodes only: writing, and getting at folders that are not ComfyUI's.
WRITERS = {
    *("write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "rmtree", "symlink_to"),
    *("savez", "savez_compressed", "savetxt", "save_file", "tofile", "NamedTemporaryFile", "mkdtemp"),
    *("write_cameras", "write_run", "new_folder", "new_file", "write_file", "save_prompt_embeds"),
    "write_tensors",
    *("expanduser", "home", "getcwd", "cwd", "environ", "chdir"),
}


def python_findings(source: str, *, node: bool = False) -> Iterator[str]:
    """What is forbidden in a Python file; `node` adds what ComfyUI's nodes may not do."""
    tree = ast.parse(source)
    meaning = dict(_imports(tree))
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            yield from (alias.name.split(".")[0] for alias in part.names if _is_module(alias.name))
        elif isinstance(part, ast.ImportFrom) and not part.level and _is_module(part.module):
            yield part.module.split(".")[0]
        if isinstance(part, ast.Name | ast.Attribute | ast.ImportFrom):
            yield from NAMES & set(_names(part, meaning))
        if isinstance(part, ast.Call):
            yield from _call_findings(part)
        if node:
            yield from _writing(part)


def _is_module(name: str) -> bool:
    return name.split(".")[0] in MODULES and name != "importlib.metadata"


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Names in a file to what they stand for: np to numpy."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            for alias in part.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(part, ast.ImportFrom) and not part.level:
            for alias in part.names:
                yield alias.asname or alias.name, f"{part.module}.{alias.name}"


def _names(part: ast.AST, meaning: dict[str, str]) -> list[str]:
    if isinstance(part, ast.ImportFrom):
        return [] if part.level else [f"{part.module}.{alias.name}" for alias in part.names]
    if isinstance(part, ast.Attribute):
        return [f"{base}.{part.attr}" for base in _names(part.value, meaning)]
    return [meaning.get(part.id, part.id)] if isinstance(part, ast.Name) else []


def _call_findings(call: ast.Call) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    for names, wanted in ((MUST_BE_FALSE, False), (MUST_BE_TRUE, True)):
        for name in names & given.keys():
            if getattr(given[name], "value", None) is not wanted:
                yield name
    if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained":
        if "use_safetensors" not in given:
            yield "from_pretrained without safetensors"


def _writing(part: ast.AST) -> Iterator[str]:
    name = getattr(part, "attr", None) if isinstance(part, ast.Attribute) else getattr(part, "id", None)
    if name in WRITERS:
        yield name
    if isinstance(part, ast.Call) and any(set("wax+") & set(mode) for mode in _modes(part)):
        yield "open for writing"
    if isinstance(part, ast.Attribute) and part.attr == "save":
        yield "save"


def _modes(call: ast.Call) -> Iterator[str]:
    """What open(path, MODE) or path.open(MODE) is given; one that cannot be known counts as "w"."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        yield from (str(getattr(mode, "value", "w")) for mode in [*call.args[1:2], *named])
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "open":
        # Pictures are opened by a method of this name too, from a path or a stream.
        given = [mode for mode in call.args if isinstance(mode, ast.Constant)]
        yield from (str(getattr(mode, "value", "w")) for mode in [*given, *named])


def shipped() -> list[Path]:
    files = [ROOT / "__init__.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
    found = [path for path in files if path.relative_to(ROOT).as_posix() not in FOR_DEVELOPERS]
    assert len(found) > 50
    return found


def test_nothing_shipped_does_what_is_forbidden():
    found = set()
    for path in shipped():
        name = path.relative_to(ROOT).as_posix()
        for what in python_findings(path.read_text(encoding="utf-8"), node=name.startswith("nodes/")):
            found.add((name, what))
    assert found - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() - found == set(), "exceptions that are not needed"


@pytest.mark.parametrize(
    "source, what",
    [
        ("eval('1')", "eval"),
        ("run = exec", "exec"),
        ("compile('x', '', 'exec')", "compile"),
        ("getattr(__builtins__, 'ev' + 'al')", "__builtins__"),
        ("import pickle", "pickle"),
        ("def f():\n    from pickle import loads as read", "pickle"),
        ("import shelve, marshal", "marshal"),
        ("import torch as t\nt.load('x.pt')", "torch.load"),
        ("from torch import load", "torch.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("import numpy as np\nnp.load('x', allow_pickle=flag)", "allow_pickle"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("import os\nos.system('ls')", "os.system"),
        ("from os import popen", "os.popen"),
        ("import subprocess", "subprocess"),
        ("import urllib.request", "urllib"),
        ("from http.client import HTTPConnection", "http"),
        ("import socket", "socket"),
        ("AutoModel.from_pretrained('x')", "from_pretrained without safetensors"),
        ("AutoModel.from_pretrained('x', use_safetensors=True, trust_remote_code=True)", "trust_remote_code"),
    ],
)
def test_planted_python_is_found(source, what):
    assert what in set(python_findings(source))


@pytest.mark.parametrize(
    "source, what",
    [
        ("open(path, 'w')", "open for writing"),
        ("open(path, mode)", "open for writing"),
        ("open(path, mode='ab')", "open for writing"),
        ("path.open('x')", "open for writing"),
        ("Path(name).write_text('')", "write_text"),
        ("picture.save(name)", "save"),
        ("Path.home() / 'x'", "home"),
        ("os.makedirs(name)", "makedirs"),
        ("write_cameras(prefix, cameras, 12, 'glb')", "write_cameras"),
    ],
)
def test_planted_writing_in_a_node_is_found(source, what):
    assert what in set(python_findings(source, node=True))


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('x')",
        "model.eval()",
        "module.compile()",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "open(path, 'rb')",
        "open(path)",
        "path.open('rb')",
        "from .weights import load",
        "from importlib.metadata import version",
        "'# eval(x)'",
    ],
)
def test_harmless_python_is_not_found(source):
    assert not set(python_findings(source, node=True))


# --- The page ---------------------------------------------------------------------------------------------

# Text goes into the page as textContent; the server is asked through ComfyUI's own api.
MARKUP = {
    *("innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc", "createContextualFragment", "setHTMLUnsafe"),
    *("parseFromString", "write", "writeln", "eval", "Function", "constructor", "__proto__"),
    *("fetch", "XMLHttpRequest", "WebSocket", "EventSource", "sendBeacon", "importScripts"),
}
TIMERS = {"setTimeout", "setInterval"}
TEXTS = {"string", "template_string"}
NAMING = {"identifier", "property_identifier", "shorthand_property_identifier"}


def script_findings(source: str) -> Iterator[str]:
    """What is forbidden in a script of the page: names, as identifiers or as texts, and texts run as code."""
    import tree_sitter
    import tree_sitter_javascript

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_javascript.language()))
    tree = parser.parse(source.encode())
    assert not tree.root_node.has_error, "not JavaScript"
    waiting = [tree.root_node]
    while waiting:
        part = waiting.pop()
        waiting += part.children
        text = part.text.decode()
        if part.type in NAMING and part.parent.type != "method_definition":
            yield from {text} & MARKUP
        elif part.type in TEXTS:
            yield from {text[1:-1]} & MARKUP
            if text[1:].lower().startswith("javascript:"):
                yield "javascript:"
        elif part.type == "call_expression":
            function, arguments = (part.child_by_field_name(name) for name in ("function", "arguments"))
            first = arguments.named_children[0] if arguments and arguments.named_children else None
            called = function.text.decode().split(".")[-1]
            if called in TIMERS and first is not None and first.type in TEXTS:
                yield f"{called} of text"
            if called == "setAttribute" and (
                first is None or first.type != "string" or first.text.decode()[1:].lower().startswith("on")
            ):
                yield "setAttribute of a handler"
            if function.type == "import":
                yield "import()"
        elif part.type == "import_statement" and not part.child_by_field_name("source").text.startswith(
            (b'"./', b'"../')
        ):
            yield "import from elsewhere"


def test_the_page_gets_no_unescaped_text():
    scripts = sorted((ROOT / "web").rglob("*.js"))
    assert len(scripts) >= 4
    for path in scripts:
        assert not set(script_findings(path.read_text(encoding="utf-8"))), path.name


@pytest.mark.parametrize(
    "source, what",
    [
        ("panel.innerHTML = `<b>${name}</b>`;", "innerHTML"),
        ("panel['innerHTML'] = name;", "innerHTML"),
        ("panel[`outerHTML`] += name;", "outerHTML"),
        ("Object.assign(panel, { innerHTML: name });", "innerHTML"),
        ("const innerHTML = name; Object.assign(panel, { innerHTML });", "innerHTML"),
        ("panel?.insertAdjacentHTML('beforeend', name);", "insertAdjacentHTML"),
        ("document.write(name);", "write"),
        ("const run = eval; run(name);", "eval"),
        ("new Function(name)();", "Function"),
        ("(() => {}).constructor(name)();", "constructor"),
        ("setTimeout('run()', 10);", "setTimeout of text"),
        ("window.setInterval(`run(${name})`, 10);", "setInterval of text"),
        ("panel.setAttribute('onclick', name);", "setAttribute of a handler"),
        ("panel.setAttribute(which, name);", "setAttribute of a handler"),
        ("link.href = 'javascript:' + name;", "javascript:"),
        ("await import(name);", "import()"),
        ('import x from "https://elsewhere/x.js";', "import from elsewhere"),
        ("fetch('/x');", "fetch"),
    ],
)
def test_planted_script_is_found(source, what):
    assert what in set(script_findings(source))


@pytest.mark.parametrize(
    "source",
    [
        "// innerHTML\npanel.textContent = name;",
        "setInterval(() => refresh(), 300);",
        "panel.setAttribute('title', name);",
        "class A { constructor() {} }",
        'import { app } from "../../scripts/app.js";',
    ],
)
def test_harmless_script_is_not_found(source):
    assert not set(script_findings(source))
