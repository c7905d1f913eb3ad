"""Speech for devices: real digits from the shared folder if there is one, else the sample."""

import io
import json
import shutil
from pathlib import Path

import soundfile

from efmodel.speech import corpus

FSDD = Path(__file__).parents[3] / "shared" / "speech" / "fsdd" / "train"


def device_folders(folder: Path, devices: list[str], utterances: int) -> dict[str, Path]:
    """Write one speaker's recordings for each device; return ``{device: its data-path}``."""
    dataset = corpus.load("audiofolder", str(FSDD)) if FSDD.is_dir() else corpus.load("sample", "")
    speakers = dataset.train["speaker"][:]
    folders = {}
    for device, speaker in zip(devices, sorted(set(speakers)), strict=False):
        folders[device] = folder / f"speech-{device}"
        folders[device].mkdir()
        rows = [index for index, name in enumerate(speakers) if name == speaker][:utterances]
        with (folders[device] / "metadata.jsonl").open("w") as metadata:
            for number, row in enumerate(dataset.train.select(rows)):
                name = f"{number}.flac"
                _copy(row["audio"], folders[device] / name)
                line = {"file_name": name, "text": row["text"], "speaker": speaker}
                metadata.write(json.dumps(line) + "\n")
    return folders


def _copy(audio: dict, target: Path) -> None:
    if audio["bytes"] is None:
        shutil.copy(audio["path"], target)
    else:
        samples, rate = soundfile.read(io.BytesIO(audio["bytes"]))
        soundfile.write(target, samples, rate)
