"""Find the audio files that tables name."""

import os
from functools import lru_cache
from pathlib import Path, PureWindowsPath

# Suffixes of files with sound, those that are read first first.
SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".sph", ".m4a", ".mp4", ".webm", ".amr",
    ".aac", ".3gp", ".wma", ".mkv", ".mov", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64",
)  # fmt: skip


def is_audio(path: Path) -> bool:
    """Return whether a file's name is that of a recording."""
    return path.suffix.lower() in SUFFIXES


def locate(name: str, *folders: Path) -> str:
    """Return the path of an audio file that a table names.

    The name may lack its suffix, have the backslashes of Windows, or be absolute on the machine
    where the table was written: then the longest end of it that exists here is taken.

    Parameters
    ----------
    name : str
        As the table writes it.
    folders : Path
        Folders to which it may be relative, the likeliest first.

    Returns
    -------
    str
        A path that exists, or the likeliest one: whoever reads it names the missing file.
    """
    name = name.strip()
    if found := _existing(name, folders):
        return found
    windows = PureWindowsPath(name)  # it takes slashes and backslashes
    relative = "/".join(windows.parts[1:] if windows.anchor else windows.parts)
    parts = relative.split("/")
    ends = 1 if not windows.anchor and not name.startswith("/") else len(parts)
    for first in range(ends):
        if found := _existing("/".join(parts[first:]), folders):
            return found
    return os.path.join(folders[0], name)


def _existing(name: str, folders: tuple[Path, ...]) -> str:
    """Return the path of the file, its suffix added if need be; empty if there is none."""
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
        if suffix := _suffix(os.path.dirname(path), os.path.basename(path)):
            return path + suffix
    return ""


def _suffix(folder: str, stem: str) -> str:
    names = _names(folder)
    return next((suffix for suffix in SUFFIXES if stem + suffix in names), "")


@lru_cache(maxsize=8)
def _names(folder: str) -> frozenset[str]:
    """Return the names in a folder; a table names many files of one folder in a row."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
