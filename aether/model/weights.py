"""Reading safetensors files with every mistake named before a tensor is loaded. Pickles are never opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from ..errors import InputError, reading
from ..files import new_file

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
"""Endings of files that are being downloaded: of the hub, browsers, aria2 and others."""
PICKLE_ADVICE = "get the .safetensors version, or convert it on a machine where that does no harm"
GGUF_ADVICE = "get the .safetensors version"
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMED_AT_MOST = 3
_AGAIN = "delete it and download it again"
_PICKLE = f"is a pickle, which can run any code when opened; {PICKLE_ADVICE}"
_GGUF = f"is GGUF, which is not read (.safetensors is the only format that is); {GGUF_ADVICE}"
_SHORT = 64  # bytes; no weights are so few


def read_header(
    file: Path, field: str, *, quantised: bool = False, subject: str | None = None
) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file; no tensor is read.

    Args:
        quantised: whether whole numbers and floats of 8 bits (quantised weights) may be in it.
        subject: of the sentences in messages; by default the file's path.

    Raises:
        InputError: not there, not safetensors, truncated, or quantised though it may not be.
    """
    from safetensors import SafetensorError, safe_open

    subject = subject or str(file)
    if problem := _problem_outside(file):
        raise InputError(field, f"{subject} {problem}")
    try:
        with safe_open(file, framework="pt") as tensors:
            views = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
            shapes = {key: tuple(view.get_shape()) for key, view in views.items()}
            dtypes = {key: view.get_dtype() for key, view in views.items()}
    except SafetensorError as error:
        problem = _diagnosis(file) or f"is truncated or damaged ({error}); {_AGAIN}"
        raise InputError(field, f"{subject} {problem}") from error
    narrow = [f"{key} ({dtype})" for key, dtype in dtypes.items() if dtype not in _FLOATS]
    if narrow and not quantised:
        raise InputError(
            field, f"{subject} is quantised: {some(narrow)}; use float32, bfloat16 or float16 weights"
        )
    return shapes


def _problem_outside(file: Path) -> str | None:
    """What is wrong with a file by its name and what lies beside it."""
    ending = file.suffix.lower()
    if file.is_symlink() and not file.exists():
        return f"is a link that leads nowhere: its download was interrupted, or its cache cleared; {_AGAIN}"
    if not file.is_file():
        return "is a folder, not a .safetensors file" if file.is_dir() else "does not exist"
    if ending in PICKLES:
        return _PICKLE
    if ending == ".gguf":
        return _GGUF
    # aria2 makes the file in its full size at once, and this one beside it until it is done.
    if ending in UNFINISHED or file.with_name(f"{file.name}.aria2").exists():
        return "is an unfinished download; start it again"
    return None if ending in SAFETENSORS else "is not a .safetensors file, the only format that is read"


def _diagnosis(file: Path) -> str | None:
    """What a file is that cannot be read, if it is one of the things often met in place of weights."""
    with file.open("rb") as stream:
        start = stream.read(_SHORT)
    if problem := _stand_in(start):
        return problem
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        return _PICKLE
    if start.startswith(b"GGUF"):
        return _GGUF
    if len(start) < _SHORT and start.isascii() and start.decode().strip().isprintable():
        return f"is a short text, not weights ({start.decode().strip()!r}); {_AGAIN}"
    return None


def _stand_in(start: bytes) -> str | None:
    """What a file that begins so is, if a download left it in place of any other."""
    if not start:
        return f"is empty; {_AGAIN}"
    if start.lstrip()[:1] == b"<":
        return f"is a web page; {_AGAIN}, logged in if need be"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer; run `git lfs pull`"
    return None


def check_keys(
    found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], where: object, field: str
) -> None:
    """Raise unless both name the same tensors with the same shapes."""
    missing, unexpected = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if unexpected and 2 * len(missing) > len(wanted):
        raise InputError(
            field,
            f"{where} is of another model: it lacks {len(missing)} of {len(wanted)} tensors "
            f"({some(missing)}), and holds {len(unexpected)} others ({some(unexpected)})",
        )
    if missing:
        raise InputError(field, f"{where} lacks {len(missing)} tensors: {some(missing)}; it is incomplete")
    if unexpected:
        raise InputError(
            field, f"{where} holds {len(unexpected)} tensors that do not belong there: {some(unexpected)}"
        )
    wrong = [
        f"{key} is {found[key]}, not {wanted[key]}" for key in sorted(wanted) if found[key] != wanted[key]
    ]
    if wrong:
        raise InputError(field, f"{where} does not fit its config: {some(wrong)}")


def read_tensors(
    file: Path, device: torch.device, dtype: torch.dtype, names: dict[str, str] | None = None
) -> dict[str, torch.Tensor]:
    """A safetensors file's tensors. ``names`` renames: the name in the file to the one wanted."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        names = names or {key: key for key in tensors.keys()}  # noqa: SIM118
        return {new: tensors.get_tensor(old).to(device, dtype) for old, new in names.items()}


def write_tensors(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    with new_file(file) as part:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, part)


def weights_digest(*modules: torch.nn.Module) -> str:
    """16 hexadecimal digits that differ where names or values of the modules' weights do."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_json(file: Path, field: str) -> dict:
    if not file.is_file():
        raise InputError(field, f"{file} does not exist; the download is incomplete")
    with reading(field, f"{file} cannot be read as JSON; download it again"):
        data = file.read_bytes()
        if problem := _stand_in(data[:_SHORT]):
            raise InputError(field, f"{file} {problem}")
        content = json.loads(data.decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise InputError(field, f"{file} is not a JSON object; download it again")
    return content


def some(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
