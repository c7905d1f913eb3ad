"""Small recordings in the formats that corpora use."""

from pathlib import Path

import pytest
import soundfile

from tests.conftest import tone

SUBTYPES = {"opus": {"format": "OGG", "subtype": "OPUS"}, "sph": {"format": "NIST"}}


@pytest.fixture
def record():
    """Write a tone; the suffix says the format."""

    def write(path: Path, seconds: float = 1.0, pitch: float = 220.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        form = SUBTYPES.get(path.suffix[1:], {})
        soundfile.write(path, tone(seconds, pitch=pitch), 16_000, **form)
        return path

    return write


@pytest.fixture
def text():
    """Write a text file, and its folders."""

    def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(encoding))
        return path

    return write
