"""The pack, Python and packages: which version is here, and whether it is the one asked for."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from .report import Line, Section, find

_PROJECT = "aether-hero"
_ROOT = Path(__file__).parents[2]

_OPTIONAL = {
    "accelerate": "--offload",
    "transformers": "computing the empty prompt with a T5 encoder",
    "sentencepiece": "tokenizers of diffusers' pipelines",
    "protobuf": "tokenizers of diffusers' pipelines",
}
"""Of the packages asked for, those that the miniature runs without, and what needs them."""


@dataclass(frozen=True)
class Asked:
    """What the project asks for.

    Attributes:
        version: of the project itself.
        python: versions of Python, such as ">=3.10".
        packages: requirements such as "torch>=2.4".
    """

    version: str
    python: str
    packages: tuple[str, ...]


def packages_section() -> Section:
    """Versions of all that is asked for."""
    return Section("Packages", (*find("requirements", _lines),))


def asked() -> Asked:
    """What pyproject.toml asks for; of an installed wheel, what its metadata say.

    Raises:
        PackageNotFoundError: neither is there.
    """
    file = _ROOT / "pyproject.toml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if f'name = "{_PROJECT}"' in text:
        return _from_source(text, (_ROOT / "requirements.txt").read_text(encoding="utf-8"))
    about = metadata(_PROJECT)
    return Asked(about["Version"], about["Requires-Python"], tuple(_of_wheel()))


def _from_source(project: str, requirements: str) -> Asked:
    """Python 3.10 has no reader of TOML; three entries are few enough for patterns."""

    def entry(pattern: str) -> str:
        found = re.search(pattern, project, re.MULTILINE | re.DOTALL)
        if found is None:
            raise ValueError(f"pyproject.toml has no entry {pattern}")
        return found[1]

    library = re.findall(r'^\s*"([^"]+)"', entry(r"^library = \[\n(.*?)^\]"), re.MULTILINE)
    return Asked(
        entry(r'^version = "([^"]+)"'),
        entry(r'^requires-python = "([^"]+)"'),
        (*requirements.split(), *library),
    )


def _of_wheel() -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires(_PROJECT) or ():
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": "library"}):
            yield f"{one.name}{one.specifier}"


def _lines() -> Iterator[Line]:
    wanted = asked()
    yield Line("aether-hero", wanted.version)
    yield from find("Python", lambda: _compared(platform.python_version(), wanted.python, "install a newer"))
    for requirement in wanted.packages:
        name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]
        yield from find(name, lambda name=name, text=requirement: [_package(name, text)])


def _package(name: str, requirement: str) -> Line:
    """A package by its metadata; it is not imported."""
    purpose = _OPTIONAL.get(name)
    install = f'pip install "{requirement}"'
    try:
        found = version(name)
    except PackageNotFoundError:
        needed = "needed" if purpose is None else f"needed for {purpose}"
        return Line(name, f"missing, {needed}: {install}", blocking=purpose is None)
    return Line(name, _compared(found, requirement.removeprefix(name), install))


def _compared(found: str, wanted: str, advice: str) -> str:
    if not wanted:
        return found
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return f"{found} ({wanted} is asked for; comparing needs `pip install packaging`)"
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return f"{found} ({wanted})"
    return f"{found}, but {wanted} is asked for: {advice}"
