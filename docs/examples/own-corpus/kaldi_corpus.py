"""Read Kaldi data folders: ``train`` and ``test``, each with ``wav.scp``, ``text`` and ``utt2spk``.

KALDI_DATA=~/kaldi/data ef-asr simulate --data kaldi

EF-ASR reads such folders by itself too (``--data FOLDER``); this shows what a package needs.
Entries of ``wav.scp`` that are commands (they end in ``|``) and ``segments`` files are not read.
"""

import os
from pathlib import Path

from datasets import Dataset

from efmodel.speech.recordings import FEATURES, Corpus, DataError


def load() -> Corpus:
    """Return the corpus in the folder that the environment variable KALDI_DATA names.

    Raises
    ------
    DataError
        Naming the file and the utterance that is not as it should be.
    """
    folder = Path(os.environ.get("KALDI_DATA", "data")).expanduser()
    test = folder / "test"
    return Corpus(_half(folder / "train"), _half(test) if test.is_dir() else None)


def _half(folder: Path) -> Dataset:
    texts, speakers = _table(folder / "text"), _table(folder / "utt2spk")
    rows = []
    for utterance, path in _table(folder / "wav.scp").items():
        if path.endswith("|"):
            raise DataError(f"{folder / 'wav.scp'}: found a command for {utterance}, wanted a file")
        if utterance not in texts or utterance not in speakers:
            raise DataError(f"{folder}: found no text or no speaker for {utterance}, wanted both")
        audio = {"bytes": None, "path": str(folder / path)}
        rows.append({"audio": audio, "text": texts[utterance], "speaker": speakers[utterance]})
    return Dataset.from_list(rows, features=FEATURES)


def _table(path: Path) -> dict[str, str]:
    """Return a Kaldi table: each line has a key, a space, and a value."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: found no file, wanted a Kaldi table ({error})") from error
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}
