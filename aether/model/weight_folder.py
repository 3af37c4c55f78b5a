"""Which files of a folder are a model's weights: one file, or shards with or without an index."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, reading
from .weights import GGUF_ADVICE, PICKLE_ADVICE, PICKLES, UNFINISHED, read_json, some

WEIGHTS = "diffusion_pytorch_model"
"""What diffusers calls a model's weights, before ".safetensors"."""

_INDEX = re.compile(r".+\.safetensors\.index(\.[^.]+)?\.json")
_SHARD = re.compile(
    r"(?P<name>.+)-(?P<number>\d{1,5})-of-(?P<count>(?!0+\D)\d{1,5})(?P<end>(\.[^.]+)?\.safetensors)",
    re.IGNORECASE,
)
_HUB_DOWNLOADS = Path(".cache", "huggingface", "download")
"""Where `hf download --local-dir` keeps files until they are whole."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Version:
    """Files that are a whole model's weights together. A folder may hold several, as fp16 beside float32."""

    name: str
    files: tuple[str, ...]
    missing: tuple[str, ...] = ()
    indexed: bool = True


def weight_files(folder: Path, field: str, name: str = WEIGHTS) -> list[Path]:
    """The safetensors files of a folder as diffusers or transformers write it.

    Of several versions the one without a variant in its name (".fp16", ".non_ema") is taken, an index before
    a single file; files under other names only where none is called ``name``. Shards whose index is missing
    are taken by the numbers in their names, which a warning says.

    Raises:
        InputError: no weights there, none that are whole, or several that cannot be distinguished.
    """
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    versions = _versions(folder, names, field)
    own = [version for version in versions if version.name.startswith(name)] or versions
    whole = [version for version in own if not version.missing]
    usual = (f"{name}.safetensors.index.json", f"{name}.safetensors")
    whole.sort(key=lambda version: usual.index(version.name) if version.name in usual else len(usual))
    if not whole:
        raise InputError(field, f"{folder} {_lack(folder, names, own)}")
    if len(whole) > 1 and whole[0].name not in usual:
        choices = some([version.name for version in whole])
        raise InputError(
            field,
            f"{folder} holds several weight files; give the path of one, or keep one only: {choices}",
        )
    _warn(folder, whole[0], [version for version in own if version.missing])
    return [folder / file for file in whole[0].files]


def refuse_shard(file: Path, field: str) -> None:
    """Raise where a file is one shard of several by its name.

    Raises:
        InputError.
    """
    found = _SHARD.fullmatch(file.name)
    if found and int(found["count"]) > 1:
        raise InputError(
            field, f"{file} is one of {int(found['count'])} shards; give their folder, or weights in one file"
        )


def _versions(folder: Path, names: list[str], field: str) -> list[_Version]:
    indexed = [_indexed(folder, name, field) for name in names if _INDEX.fullmatch(name)]
    taken = {file for version in indexed for file in version.files}
    others = [name for name in names if name.lower().endswith(".safetensors") and name not in taken]
    single = [name for name in others if not _SHARD.fullmatch(name)]
    return [
        *indexed,
        *_numbered(folder, others),
        *(_Version(name, (name,), _absent(folder, [name])) for name in single),
    ]


def _indexed(folder: Path, name: str, field: str) -> _Version:
    with reading(field, f"{folder / name} is no index of weight files"):
        shards = read_json(folder / name, field)["weight_map"].values()
        listed = sorted({Path(str(shard)).name for shard in shards})
        missing = _absent(folder, listed) if listed else ("files in its index",)
    return _Version(name, tuple(listed), missing)


def _numbered(folder: Path, names: list[str]) -> Iterator[_Version]:
    """Shards that no index lists, by the numbers in their names."""
    found = [match for match in map(_SHARD.fullmatch, names) if match]
    for name, count, end in dict.fromkeys((match["name"], match["count"], match["end"]) for match in found):
        files = [f"{name}-{number:0{len(count)}d}-of-{count}{end}" for number in range(1, int(count) + 1)]
        yield _Version(f"{name}{end}", tuple(files), _absent(folder, files), indexed=False)


def _absent(folder: Path, files: list[str]) -> tuple[str, ...]:
    return tuple(file for file in files if not (folder / file).is_file())


def _lack(folder: Path, names: list[str], versions: list[_Version]) -> str:
    """Why there are no whole weights, and what to do."""
    unfinished = _unfinished(folder, names)
    again = "download it again"
    if unfinished:
        again = f"its download was interrupted ({unfinished[0]}): start it again"
    dead = [name for name in names if (folder / name).is_symlink() and not (folder / name).exists()]
    if versions:
        links = ", whose links lead nowhere" if set(dead) & set(versions[0].missing) else ""
        return f"lacks {some(list(versions[0].missing))}{links}; {again}"
    if unfinished:
        return f"holds no whole .safetensors file: {again}"
    if found := [name for name in names if name.lower().endswith(".gguf")]:
        return f"holds {found[0]}, and GGUF is not read; {GGUF_ADVICE}"
    if any(name.lower().endswith(PICKLES) for name in names):
        return f"holds pickled weights only; {PICKLE_ADVICE}"
    return "holds no .safetensors file; download it again"


def _unfinished(folder: Path, names: list[str]) -> list[str]:
    """Files of a download that broke off."""
    waiting = [folder / _HUB_DOWNLOADS, folder.parent / _HUB_DOWNLOADS / folder.name]
    kept = [file.name for place in waiting for file in sorted(place.glob("*.incomplete"))]
    return [name for name in names if name.lower().endswith(UNFINISHED)] + kept


def _warn(folder: Path, taken: _Version, incomplete: list[_Version]) -> None:
    if not taken.indexed:
        log.warning("%s: the index is missing; %d shards are taken by their names", folder, len(taken.files))
    for version in incomplete:
        missing = some(list(version.missing))
        log.warning("%s: %s lacks %s; %s is taken", folder, version.name, missing, taken.name)
