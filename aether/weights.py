"""Reading safetensors files with every mistake named before a tensor is loaded. Pickles are never opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from .errors import InputError, reading
from .files import new_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMED_AT_MOST = 3
_AGAIN = "delete it and download it again"
_PICKLE_ADVICE = "get the .safetensors version, or convert it on a machine where that does no harm"
_PICKLE = f"is a pickle, which can run any code when opened; {_PICKLE_ADVICE}"


def weight_files(folder: Path, field: str) -> list[Path]:
    """The safetensors files of a diffusers folder: those of its index, else its one weight file.

    Raises:
        InputError: none there, or a file of the index is missing.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        with reading(field, f"{index} is no index of weight files"):
            names = sorted({str(name) for name in read_json(index, field)["weight_map"].values()})
            missing = [name for name in names if not (folder / Path(name).name).is_file()]
        if missing or not names:
            raise InputError(
                field, f"{folder} lacks {_some(missing) or 'files in its index'}; download it again"
            )
        return [folder / Path(name).name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files
    if files:
        raise InputError(
            field, f"{folder} holds several weight files; name one of {_some([f.name for f in files])}"
        )
    if any(folder.glob(f"*{suffix}") for suffix in PICKLES):
        raise InputError(field, f"{folder} holds pickled weights only; {_PICKLE_ADVICE}")
    raise InputError(field, f"{folder} holds no .safetensors file; download it again")


def read_header(file: Path, field: str, *, quantised: bool = False) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file; no tensor is read.

    Args:
        quantised: whether whole numbers and floats of 8 bits (quantised weights) may be in it.

    Raises:
        InputError: not there, not safetensors, truncated, or quantised though it may not be.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise InputError(field, f"{file} does not exist")
    if file.suffix.lower() in PICKLES:
        raise InputError(field, f"{file} {_PICKLE}")
    if file.suffix.lower() != ".safetensors":
        raise InputError(field, f"{file} is not a .safetensors file, the only format that is read")
    try:
        with safe_open(file, framework="pt") as tensors:
            views = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
            shapes = {key: tuple(view.get_shape()) for key, view in views.items()}
            dtypes = {key: view.get_dtype() for key, view in views.items()}
    except SafetensorError as error:
        problem = _diagnosis(file) or f"is truncated or damaged ({error}); {_AGAIN}"
        raise InputError(field, f"{file} {problem}") from error
    narrow = [f"{key} ({dtype})" for key, dtype in dtypes.items() if dtype not in _FLOATS]
    if narrow and not quantised:
        raise InputError(
            field, f"{file} is quantised: {_some(narrow)}; use float32, bfloat16 or float16 weights"
        )
    return shapes


def _diagnosis(file: Path) -> str | None:
    """What a file that is no safetensors is instead, if it is one of the things often met in their place."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start:
        return f"is empty; {_AGAIN}"
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        return _PICKLE
    if start.lstrip()[:1] == b"<":
        return f"is a web page, not weights; {_AGAIN}, logged in if need be"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not weights; run `git lfs pull`"
    return None


def check_keys(
    found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], where: object, field: str
) -> None:
    """Raise unless both name the same tensors with the same shapes."""
    missing, unexpected = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise InputError(field, f"{where} lacks {len(missing)} tensors: {_some(missing)}; it is incomplete")
    if unexpected:
        raise InputError(
            field, f"{where} holds {len(unexpected)} tensors that do not belong there: {_some(unexpected)}"
        )
    wrong = [
        f"{key} is {found[key]}, not {wanted[key]}" for key in sorted(wanted) if found[key] != wanted[key]
    ]
    if wrong:
        raise InputError(field, f"{where} does not fit its config: {_some(wrong)}")


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
        content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise InputError(field, f"{file} is not a JSON object; download it again")
    return content


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
