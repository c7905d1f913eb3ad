"""A check of the folder in which this user's nodes keep files between rounds."""

import os
import tempfile
from pathlib import Path

from efmodel.cache_folder import cache_folder


def writable_folder() -> Path:
    """Return the cache folder, made if need be, once a file could be written to it.

    Raises
    ------
    OSError
        If none can be; ``filename`` is the folder.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.write(file.fileno(), bytes(4096))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    return folder
