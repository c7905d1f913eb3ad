"""The folder in which this user's programs keep what they would otherwise compute again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/ef-asr`` or ``~/.cache/ef-asr``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ef-asr"
