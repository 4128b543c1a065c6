"""Where pictures go: files that are not there yet, in folders that are made if need be."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from ..codecs import PNG, SAFETENSORS
from ..errors import RequestError, ZitError

STDOUT = "-"

SUFFIXES = {PNG: ".png", SAFETENSORS: ".safetensors", "audio/wav": ".wav"}
"""What operating systems know under other names, or not at all."""


class WriteError(ZitError):
    """A picture could not be written where it was wanted."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} cannot be written ({error.strerror or error}); name another place with --out"
        )
        self.path = path


class Destination:
    """Gives each picture of one call a file of its own, and overwrites nothing without being told."""

    def __init__(self, out: str | None, *, media_type: str = PNG, overwrite: bool = False) -> None:
        """`out` is a folder (there already, or named without a suffix), a file, or "-" for stdout.

        Raises RequestError where nothing can be written, before anything is rendered for it.
        """
        self.to_stdout = out == STDOUT
        self._suffix = SUFFIXES.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
        self._overwrite = overwrite
        self._taken: set[Path] = set()
        place = Path(os.path.expanduser(out or "."))  # noqa: PTH111 - ~nobody is a name, as in a shell
        names_folder = place.is_dir() or not place.suffix or (out or "").endswith(("/", os.sep))
        self._folder = place if names_folder else place.parent
        self._file = None if names_folder else place
        if not self.to_stdout:
            self._refuse(media_type, out)

    def write(self, data: bytes, *, name: str) -> Path:
        """Write a new file, whole or not at all, and return its path. `name` is used in folders.

        Raises WriteError.
        """
        wanted = self._file or self._folder / f"{name}{self._suffix}"
        number = 0
        while True:
            path = wanted if not number else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            number += 1
            try:
                written = path not in self._taken and self._write(path, data)
            except OSError as error:
                raise WriteError(path, error) from error
            if written:
                self._taken.add(path)
                return path

    def _refuse(self, media_type: str, out: str | None) -> None:
        if self._file is not None and media_type == PNG and self._file.suffix.lower() != ".png":
            remedy = f"pictures are PNG files; name {self._file.with_suffix('.png')} or a folder"
            raise RequestError("out", out, remedy)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = f"name a folder that can be made ({error.strerror}: {error.filename})"
            raise RequestError("out", out, remedy) from None
        if not os.access(self._folder, os.W_OK):
            raise RequestError("out", out, f"name another folder; {self._folder} cannot be written to")

    def _write(self, path: Path, data: bytes) -> bool:
        if self._overwrite:
            part = path.with_name(f".{path.name}.part")
            try:
                part.write_bytes(data)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
            return True
        try:
            # "x": of two programs that write at once, each gets a name of its own.
            with path.open("xb") as file:
                try:
                    file.write(data)
                    file.flush()
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            return False
        return True
