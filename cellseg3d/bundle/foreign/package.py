"""Read the files of a package, in a folder or a zip file, and no files outside it."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, FormatError, InputError
from cellseg3d.core.mappings import parse_mapping

MOST_BYTES = 4 * 2**30


class Package:
    """A package of a model, whose files are read one by one and never unpacked.

    Parameters
    ----------
    place : Path
        A folder, or a zip file of its files or of the folder itself.

    Raises
    ------
    InputError
        If there is no such folder or file.
    FormatError
        If the file is not a zip file.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        # The folder of a zip file that holds all of its files.
        self._top = ""
        self._archive: zipfile.ZipFile | None = None
        if place.is_dir():
            return
        if not place.is_file():
            message = f"{place}: does not exist; expected a folder or a zip file"
            raise InputError(message)
        try:
            self._archive = zipfile.ZipFile(place)
        except zipfile.BadZipFile as error:
            message = f"{place}: is not a complete zip file ({error}); copy it again"
            raise FormatError(message) from error
        names = self._archive.namelist()
        top = names[0].partition("/")[0] + "/" if names else ""
        if all(name.startswith(top) for name in names):
            self._top = top

    def has(self, name: str) -> bool:
        """Return whether the package holds a file of this path."""
        if self._archive is not None:
            return self._top + name in self._archive.NameToInfo
        return self._inside(name).is_file()

    def mapping(self, name: str) -> dict[str, Any]:
        """Return the mapping in a JSON or YAML file of the package.

        Raises
        ------
        FormatError
            If the file is no text.
        ConfigError
            If it holds no mapping.
        """
        where = self.place / name
        try:
            text = self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            message = f"{where}: is no UTF-8 text ({error}); copy it again"
            raise FormatError(message) from error
        return parse_mapping(text, where)

    def read(self, name: str) -> bytes:
        """Return a file of the package.

        Parameters
        ----------
        name : str
            Its path inside the package.

        Raises
        ------
        ConfigError
            If the path leads out of the package or is a web address.
        InputError
            If there is no such file, or it is larger than 4 GiB.
        """
        inside = PurePosixPath(name)
        if "://" in name or inside.is_absolute() or ".." in inside.parts:
            message = (
                f"{self.place}: {name!r} lies outside the package and is not fetched; "
                "write a complete package (of bioimage.io: bioimageio package ID OUT)"
            )
            raise ConfigError(message)
        if not self.has(name):
            raise InputError(f"{self.place}: {name} is missing; copy the package again")
        if self._archive is not None:
            size = self._archive.getinfo(self._top + name).file_size
        else:
            size = self._inside(name).stat().st_size
        if size > MOST_BYTES:
            message = f"{self.place}: {name} has {size} bytes; expected 4 GiB at most"
            raise InputError(message)
        if self._archive is None:
            return self._inside(name).read_bytes()
        try:
            return self._archive.read(self._top + name)
        except (zipfile.BadZipFile, RuntimeError) as error:
            message = f"{self.place}: {name} cannot be read ({error}); copy it again"
            raise FormatError(message) from error

    def stored(self, block: Any, what: str) -> bytes:  # noqa: ANN401 - of a file
        """Return a file that the description names, after a check of its hash.

        Parameters
        ----------
        block : object
            A path, or a mapping with ``source`` and perhaps ``sha256``.
        what : str
            What the file holds; errors name it.

        Raises
        ------
        ConfigError
            If the block names no file.
        FormatError
            If the file does not have the hash that the description states.
        """
        values = block if isinstance(block, Mapping) else {"source": block}
        name = values.get("source")
        if not isinstance(name, str):
            message = f"{self.place}: {what} names no file; found {name!r}"
            raise ConfigError(message)
        data = self.read(name)
        stated = values.get("sha256")
        found = hashlib.sha256(data).hexdigest()
        if stated and stated != found:
            message = (
                f"{self.place}: {name} has the hash {found[:12]}, but its description "
                f"says {str(stated)[:12]}, so it was changed or damaged; copy it again"
            )
            raise FormatError(message)
        return data

    def array(self, block: Any, what: str) -> NDArray[Any]:  # noqa: ANN401
        """Return an array that the description names.

        Raises
        ------
        FormatError
            If the file is not an array of numbers.
        """
        data = self.stored(block, what)
        try:
            found = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, TokenError) as error:
            message = f"{self.place}: {what} is not an array ({error}); copy it again"
            raise FormatError(message) from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "uifb":
            message = f"{self.place}: {what} does not hold numbers; copy it again"
            raise FormatError(message)
        return found

    def _inside(self, name: str) -> Path:
        """Return the path of a file; refuse a link that leads out of the folder."""
        path = (self.place / name).resolve()
        if not path.is_relative_to(self.place.resolve()):
            message = f"{self.place}: {name} is a link that leads out of the package"
            raise ConfigError(f"{message}; copy the file itself")
        return path
