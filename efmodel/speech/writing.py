"""Write a corpus in our own layout: ``metadata.jsonl`` and audio files."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile

from efmodel.config import SAMPLE_RATE
from efmodel.errors import DataError
from efmodel.speech import audio
from efmodel.speech.recorded import source
from efmodel.speech.recordings import Corpus
from efmodel.speech.segments import parse

if TYPE_CHECKING:  # datasets takes seconds to import
    from datasets import Dataset

IN_A_FOLDER = 1000  # files: more make some file systems and programs slow


def write(corpus: Corpus, folder: Path) -> Counter[str]:
    """Write both halves of a corpus below a new folder.

    A whole file that libsndfile reads is copied as it is. A part of a recording, and what ffmpeg
    decodes, becomes a FLAC file of 16 kHz and one channel.

    Returns
    -------
    Counter
        The number of recordings by what happened to them: "copied", "converted", "left out".

    Raises
    ------
    DataError
        If the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"write: found files in {folder}, wanted a new or an empty folder")
    done: Counter[str] = Counter()
    for half, dataset in (("train", corpus.train), ("test", corpus.test)):
        if dataset is not None and len(dataset):
            (folder / half).mkdir(parents=True, exist_ok=True)
            lines = _lines(dataset, folder / half, done)
            with (folder / half / "metadata.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return done


def _lines(dataset: "Dataset", folder: Path, done: Counter[str]) -> Iterator[dict[str, Any]]:
    """Write the recordings of a half; yield the line of each one."""
    for number, row in enumerate(dataset):
        name = Path(parse(row["audio"]["path"] or "audio").file)
        stem = f"audio/{number // IN_A_FOLDER:04d}/{number % IN_A_FOLDER:03d}-{name.stem}"
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        try:
            file_name, what = _write(source(row), folder, stem, name.suffix.lower())
        except audio.AudioError:
            done["left out"] += 1
            continue
        done[what] += 1
        yield {"file_name": file_name, "text": row["text"], "speaker": row["speaker"]}


def _write(sound: bytes | str, folder: Path, stem: str, suffix: str) -> tuple[str, str]:
    """Write a recording; return its file's name, and whether it was copied or converted."""
    info = audio.info(sound, longest=0)
    if info.part or info.ffmpeg:
        samples = audio.decode(sound).samples.clamp(-1, 1)
        soundfile.write(folder / f"{stem}.flac", samples.numpy(), SAMPLE_RATE)
        return f"{stem}.flac", "converted"
    target = folder / f"{stem}{suffix or '.' + info.form.lower()}"
    if isinstance(sound, bytes):
        target.write_bytes(sound)
    else:
        shutil.copyfile(sound, target)
    return target.relative_to(folder).as_posix(), "copied"
