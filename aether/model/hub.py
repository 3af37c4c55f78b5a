"""Paths and Hugging Face repositories: where a named thing lies on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, reading
from .weights import PICKLES

Progress = Callable[[str], None]

_REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (*PICKLES, ".safetensors", ".json")


def existing(path: str | Path, field: str) -> Path:
    """The path, or what it stands for, see :func:`_snapshot`.

    Raises:
        InputError: it does not exist.
    """
    path = Path(path).expanduser()
    # A link that leads nowhere is explained where it is read.
    if not path.exists() and not path.is_symlink():
        raise InputError(field, f"{path} does not exist")
    return _snapshot(path, field)


def _snapshot(path: Path, field: str) -> Path:
    """In a repository's folder of Hugging Face's cache ("models--org--name") the revision that is in use."""
    kept = path / "snapshots"
    if not path.name.startswith("models--") or not kept.is_dir():
        return path
    main = path / "refs" / "main"
    if main.is_file():
        with reading(field, f"{main} names no revision"):
            revision = kept / Path(main.read_text(encoding="utf-8").strip()).name
        if revision.is_dir():
            return revision
    revisions = sorted(kept.iterdir())
    if len(revisions) != 1:
        raise InputError(field, f"{kept} holds {len(revisions)} revisions; give the folder of one")
    return revisions[0]


def cached_folder(repo: str, cache: Path | None) -> Path | None:
    """The folder of a repository that was downloaded, as far as it is there; None where nothing is.

    Args:
        repo: its name, "org/name".
        cache: where downloads are kept; None for Hugging Face's own.
    """
    folder = downloads_folder(cache) / f"models--{repo.replace('/', '--')}"
    return _snapshot(folder, "source") if folder.is_dir() else None


def downloads_folder(cache: Path | None) -> Path:
    """Where downloads are kept: ``cache``, else Hugging Face's own."""
    from huggingface_hub import constants

    return cache or Path(constants.HF_HUB_CACHE)


def resolve(
    source: str | Path, field: str, cache: Path | None, patterns: tuple[str, ...], say: Progress
) -> Path:
    """A path as it is; a repository's name as the folder that it was downloaded to."""
    if not isinstance(source, (str, Path)) or not str(source):
        raise InputError(field, f"{source!r} is not a path or the name of a Hugging Face repository")
    path = Path(source).expanduser()
    if path.exists():
        return _snapshot(path, field)
    if not _REPO_NAME.fullmatch(str(source)) or path.suffix in _FILES:
        raise InputError(
            field,
            f"{source} does not exist, and is not the name of a Hugging Face repository (organisation/name)",
        )
    say(f"{field}: {source} from Hugging Face")
    return _download(str(source), field, cache, patterns)


def _download(repo: str, field: str, cache: Path | None, patterns: tuple[str, ...]) -> Path:
    """Fetch what is not there yet. huggingface_hub resumes, shows its own progress bars and checks sizes."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns), cache_dir=cache))
    except GatedRepoError as error:
        raise InputError(
            field, f"{repo} wants its terms accepted: do so on its page, then run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            field,
            f"{repo} is neither a path here nor a repository on Hugging Face (or it is private): check it",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            field,
            f"{repo} could not be fetched ({reason}); check the connection and try again, it will resume",
        ) from error
