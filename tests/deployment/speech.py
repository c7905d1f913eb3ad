"""Speech for devices: real digits from the shared folder if there is one, else the sample."""

import io
import json
import shutil
from itertools import islice
from pathlib import Path

import soundfile

from efmodel.speech import corpus

SHARED = Path(__file__).parents[3] / "shared" / "speech"
FSDD, ARABIC, SPEECHOCEAN = (
    SHARED / name / "train" for name in ("fsdd", "arabic", "speechocean762")
)


def device_folders(
    folder: Path, devices: list[str], utterances: int, speakers: int = 1, source: Path = FSDD
) -> dict[str, Path]:
    """Write each device's recordings; return ``{device: its data-path}``.

    A device gets ``speakers`` speakers of the corpus ``source`` that no other device has, and up to
    ``utterances`` recordings of each.
    """
    there = source.is_dir()
    dataset = corpus.load("audiofolder", str(source)) if there else corpus.load("sample", "")
    names = dataset.train["speaker"][:]
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        rows.setdefault(name, []).append(index)
    mine = iter(sorted(rows))
    folders = {device: folder / device for device in devices}
    for target in folders.values():
        target.mkdir(parents=True)
        chosen = [row for name in islice(mine, speakers) for row in rows[name][:utterances]]
        with (target / "metadata.jsonl").open("w") as metadata:
            for number, row in enumerate(dataset.train.select(chosen)):
                name = _copy(row["audio"], target / str(number)).name
                line = {"file_name": name, "text": row["text"], "speaker": row["speaker"]}
                metadata.write(json.dumps(line, ensure_ascii=False) + "\n")
    return folders


def _copy(audio: dict, target: Path) -> Path:
    """Write a recording with the suffix of its format, and return the file."""
    if audio["bytes"] is None:
        return Path(shutil.copy(audio["path"], target.with_suffix(Path(audio["path"]).suffix)))
    samples, rate = soundfile.read(io.BytesIO(audio["bytes"]))
    soundfile.write(target.with_suffix(".flac"), samples, rate)
    return target.with_suffix(".flac")
