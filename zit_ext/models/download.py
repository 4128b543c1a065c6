"""Downloads a model from the Hugging Face hub into its usual cache: resumable, verified, with progress.

    python -m zit_ext.models.download Tongyi-MAI/Z-Image-Turbo
    python -m zit_ext.models.download --tokenizer Tongyi-MAI/Z-Image-Turbo     its tokenizer alone, 11 MB

Large files are fetched by us, since the hub's client starts a file from its beginning when the program
ends, and takes bytes on trust; small ones, and the layout of the cache, are left to it. Other tools find
the result like any other download.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import GenerationStoppedError, ModelError, ModelMissingError, ZitError
from ..records import TURBO, ModelRef, Request
from ..setting_values import GB
from ..settings import Settings
from . import hub_cache, single_files, tokenizers, weight_checks, weight_remedies, weights
from .download_checks import is_as_promised
from .download_progress import Progress, ProgressLine, Report
from .fetching import Wanted, WrongBytesError, fetch
from .resolver import Resolver
from .weight_files import look

ALLOWED = ("*.safetensors", "*.json", "*.txt", "*.jinja")
"""Weights in the one safe format, and texts. No pickles, no programs."""

SPARE = GB // 2
"""Bytes of the disk that a download leaves free."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository, as the hub describes it."""

    name: str
    size: int
    sha256: str | None
    """Of large files; small ones have a git hash instead."""
    git_hash: str | None

    @property
    def blob(self) -> str | None:
        """The file's name among the blobs of the cache."""
        return self.sha256 or self.git_hash


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be downloaded of a repository, at one commit."""

    repo_id: str
    commit: str
    files: tuple[HubFile, ...]


def ensure_downloaded(source: str, settings: Settings, *, report: Report | None = None) -> None:
    """Download what this source names, if it is a Hugging Face id that is not there yet, or not whole.

    Progress goes to `report`, or else to stderr where that is a terminal. Where nothing can be downloaded
    (offline, or no id), nothing happens: whoever resolves the source will say what to do. Raises as
    `download` does.
    """
    source = source or settings.model
    if weights.is_plugins(source) or not hub_cache.is_repo_id(source):
        return
    try:
        path = weights.find(source, model_dirs=settings.model_dirs, offline=settings.offline)
        weight_checks.check(source, path, look(path))
    except ModelError:
        if settings.offline or hub_cache.is_offline():
            return
        with ProgressLine(sys.stderr, source) as line:
            download(source, report=report or line.show)


def ensure_tokenizer(model: ModelRef, settings: Settings, *, report: Report | None = None) -> None:
    """Download the official tokenizer (11 MB), if it is all that the model lacks and none is at hand.

    Where nothing can be downloaded, nothing happens, as in `ensure_downloaded`. Raises as `download` does.
    """
    if model.tokenizer is not None or settings.offline or hub_cache.is_offline():
        return
    named = replace(model, source=model.source or settings.model)
    try:
        single_files.find(Resolver(settings).resolve(Request(prompt="", seed=0, model=named)).model)
    except single_files.TokenizerMissingError:
        pass
    except ZitError:
        return  # whoever resolves it will say what is wrong
    else:
        return
    with ProgressLine(sys.stderr, f"{TURBO} (tokenizer)") as line:
        download(TURBO, folder=tokenizers.FOLDER, report=report or line.show)


def download(
    repo_id: str,
    *,
    folder: str = "",
    report: Report = lambda _progress: None,
    wants_stop: Callable[[], bool] = lambda: False,
    endpoint: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return the folder with the newest files of the repository, all of them there and verified.

    `folder` names one folder of the repository, and then only that one is downloaded.
    What is there already is not fetched again, and a file that was cut off goes on where it stopped.
    `report` and `wants_stop` are called on this thread, several times a second. Raises ModelMissingError
    where the hub has no such files for us, ModelError for a full disk, a lost connection or wrong bytes,
    and GenerationStoppedError.
    """
    if hub_cache.is_offline(environ):
        raise ModelMissingError(repo_id, weight_remedies.for_repository(repo_id, True, environ))
    hub = _hub(repo_id)
    cached = hub_cache.repository(repo_id, environ)
    listing = _listing(hub, repo_id, endpoint, folder)
    _check_space(cached, sum(_still_to_come(cached, listing, each) for each in listing.files))
    total = sum(each.size for each in listing.files)
    done = 0
    for each in listing.files:
        if wants_stop():
            raise GenerationStoppedError("the download was stopped; what arrived is kept")
        if each.sha256 is not None:
            arrived = _summed(report, each.name, done, total)
            try:
                _fetch(hub, cached, listing, each, endpoint, wants_stop, arrived)
            except OSError as error:
                raise ModelError(
                    f"{cached.parent} cannot be used: {error}; let HF_HOME name one that can be written to"
                ) from error
        done += each.size
    snapshot = _let_hub_finish(hub, cached, listing, endpoint)
    report(Progress("", total, total))
    return snapshot


def _summed(report: Report, name: str, done: int, total: int) -> Callable[[int], None]:
    return lambda arrived: report(Progress(name, done + arrived, total))


def _hub(repo_id: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelMissingError(
            repo_id, "downloads need the package huggingface_hub: `pip install huggingface_hub`"
        ) from error
    return huggingface_hub


def _listing(hub: Any, repo_id: str, endpoint: str | None, folder: str) -> Listing:
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(repo_id, files_metadata=True)
    except Exception as error:
        raise _translated(repo_id, error) from error
    files = [
        HubFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None, each.blob_id)
        for each in info.siblings or ()
        if any(fnmatch(each.rfilename, pattern) for pattern in ALLOWED)
        and (not folder or each.rfilename.startswith(f"{folder}/"))
    ]
    if folder and not files:
        raise ModelMissingError(repo_id, f"it has no folder {folder!r}")
    if not folder and not any(each.name.endswith(".safetensors") for each in files):
        raise ModelMissingError(repo_id, f"it has no .safetensors files; {weight_remedies.ONLY_SAFETENSORS}")
    return Listing(repo_id, info.sha, tuple(files))


def _place(folder: Path, listing: Listing, file: HubFile) -> Path | None:
    """Return where the file is, if some file of its size is there."""
    places = [folder / "snapshots" / listing.commit / file.name]
    if file.blob is not None:
        places.append(folder / "blobs" / file.blob)
    return next((each for each in places if each.is_file() and each.stat().st_size == file.size), None)


def _still_to_come(folder: Path, listing: Listing, file: HubFile) -> int:
    if _place(folder, listing, file) is not None:
        return 0
    part = folder / "blobs" / f"{file.sha256}.incomplete"
    return max(0, file.size - part.stat().st_size) if part.is_file() else file.size


def _check_space(folder: Path, needed: int) -> None:
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if needed and free < needed + SPARE:
        raise ModelError(
            f"{needed / GB:.1f} GB are still to be downloaded into {folder.parent}, and {free / GB:.1f} GB "
            f"are free there; free {(needed + SPARE - free) / GB:.1f} GB more, or let HF_HOME name a folder "
            "on another disk"
        )


def _fetch(
    hub: Any,
    folder: Path,
    listing: Listing,
    file: HubFile,
    endpoint: str | None,
    wants_stop: Callable[[], bool],
    arrived: Callable[[int], None],
) -> None:
    token = hub.get_token()
    wanted = Wanted(
        hub.hf_hub_url(listing.repo_id, file.name, revision=listing.commit, endpoint=endpoint),
        file.size,
        str(file.sha256),
        {"User-Agent": "zit_ext", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    blob = folder / "blobs" / str(file.sha256)
    lock = folder.parent / ".locks" / folder.name / f"{file.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    from huggingface_hub.utils import WeakFileLock  # the hub's client locks the same file

    with WeakFileLock(lock):
        if (place := _place(folder, listing, file)) is not None:
            if is_as_promised(place, sha256=file.sha256, wants_stop=wants_stop):
                return
            place.resolve().unlink()
        fetch(wanted, blob, arrived=arrived, wants_stop=wants_stop)
        _put_in_place(folder, listing, file, blob)


def _put_in_place(folder: Path, listing: Listing, file: HubFile, blob: Path) -> None:
    """Where the file system knows no links, the file itself belongs into the snapshot."""
    from huggingface_hub.file_download import are_symlinks_supported

    if not are_symlinks_supported(folder.parent):
        place = folder / "snapshots" / listing.commit / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(blob, place)


def _let_hub_finish(hub: Any, folder: Path, listing: Listing, endpoint: str | None) -> Path:
    """Return the snapshot, once the hub's client has fetched the small files and made the links."""
    wrong = listing.files
    for _try in range(2):
        snapshot = _hub_snapshot(hub, folder, listing, endpoint)
        wrong = tuple(
            each
            for each in listing.files
            if each.sha256 is None and not is_as_promised(snapshot / each.name, git_hash=each.git_hash)
        )
        if not wrong:
            return snapshot
        for each in wrong:
            # What the link points at first: a link that is left alone would pass for a finished file.
            (snapshot / each.name).resolve().unlink(missing_ok=True)
            (snapshot / each.name).unlink(missing_ok=True)
    raise WrongBytesError(
        f"{listing.repo_id}: {wrong[0].name} arrived with other bytes than promised, twice, and was removed. "
        "Try again later, or from another network: a proxy may change what it passes on"
    )


def _hub_snapshot(hub: Any, folder: Path, listing: Listing, endpoint: str | None) -> Path:
    from huggingface_hub.utils import tqdm

    class NoBar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    try:
        snapshot = hub.snapshot_download(
            listing.repo_id,
            cache_dir=folder.parent,
            allow_patterns=[each.name for each in listing.files],
            endpoint=endpoint,
            tqdm_class=NoBar,
        )
    except Exception as error:
        raise _translated(listing.repo_id, error) from error
    if Path(snapshot).name != listing.commit:
        raise ModelError(f"{listing.repo_id} changed while it was downloaded; run the same again")
    return Path(snapshot)


def _translated(repo_id: str, error: Exception) -> ZitError:
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return ModelMissingError(
            repo_id, f"its owner asks for consent: accept the terms at {page}, then run `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelMissingError(
            repo_id,
            "the hub has no such repository, or it is private: check the spelling, or run `hf auth login`",
        )
    why = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(
        f"{repo_id} could not be downloaded ({why}); check the network (HTTPS_PROXY and HF_ENDPOINT are "
        "heeded) and run the same again, or name a folder that holds the model"
    )


def main(arguments: list[str]) -> int:
    """Download each named repository; return the exit status."""
    folder = tokenizers.FOLDER if arguments[:1] == ["--tokenizer"] else ""
    arguments = arguments[1:] if folder else arguments
    if not arguments or any(not hub_cache.is_repo_id(each) for each in arguments):
        sys.stderr.write("usage: python -m zit_ext.models.download [--tokenizer] ORGANISATION/NAME ...\n")
        return 2
    try:
        for repo_id in arguments:
            with ProgressLine(sys.stderr, repo_id) as line:
                sys.stdout.write(f"{download(repo_id, folder=folder, report=line.show)}\n")
    except ZitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what arrived is kept: run the same again to go on\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
