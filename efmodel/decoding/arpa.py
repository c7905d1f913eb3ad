"""N-gram language models in ARPA files, read by KenLM. Neither torch nor transformers is needed.

The format: https://www.speech.sri.com/projects/srilm/manpages/ngram-format.5.html. KenLM (Heafield
2011, "KenLM: Faster and Smaller Language Model Queries") computes probabilities with back-off.
"""

import gzip
import math
import re
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from efmodel.errors import UserError

INSTALL = "pip install 'ef-asr[lm]'"
# Natural log-probability of an unknown word in a file without <unk>: KenLM says 10^-100, which
# no sound would outweigh.
UNKNOWN_WORD = math.log(1e-7)
SPECIAL = ("<s>", "</s>", "<unk>", "<UNK>")
GZIP = b"\x1f\x8b"  # the first bytes of a gzip file
BINARY = b"mmap lm "  # the first bytes of KenLM's own format
SHOWN = 60  # characters of a line in an error message
_BYTE = re.compile(r"[Bb]yte:? (\d+)")
_REASON = re.compile(r"threw \w+(?: because `.*?')?\.\s+(.*?)\s*\)?$", re.DOTALL)


class ArpaError(UserError):
    """A language model that cannot be read."""


class LanguageModel:
    """Log-probabilities of words after words.

    Parameters
    ----------
    path : Path or str
        An ARPA file of order 2 to 6, plain or compressed with gzip, in UTF-8.

    Attributes
    ----------
    words : list of str
        The words of the model, sorted, without ``<s>``, ``</s>`` and ``<unk>``.
    start : kenlm.State
        The state at the start of a sentence.

    Raises
    ------
    ArpaError
        If the file is missing or malformed, or KenLM is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            import kenlm
        except ImportError:
            raise ArpaError(
                f"{path}: found no KenLM to read language models with, wanted: {INSTALL}"
            ) from None
        self._kenlm: Any = kenlm
        path = Path(path)
        with _plain(path) as plain:
            self.words = sorted(set(_unigrams(plain, path)) - set(SPECIAL))
            config = kenlm.Config()
            config.show_progress = False
            config.arpa_complain = kenlm.ARPALoadComplain.NONE
            try:
                self._model: Any = kenlm.Model(str(plain), config)
            except OSError as error:
                raise _explained(str(error), plain, path) from None
        self.start: Any = kenlm.State()
        self._model.BeginSentenceWrite(self.start)

    def score(self, state: Any, word: str) -> tuple[float, Any, bool]:
        """Return ln P(word | state), the state after the word, and whether the word is known."""
        after = self._kenlm.State()
        scored = self._model.BaseFullScore(state, word, after)
        log_prob = scored.log_prob * math.log(10)
        if scored.oov:
            return max(log_prob, UNKNOWN_WORD), after, False
        return log_prob, after, True

    def end(self, state: Any) -> float:
        """Return ln P(sentence ends | state)."""
        return self.score(state, "</s>")[0]

    def has_prefix(self, prefix: str) -> bool:
        """Return whether a word of the model starts with ``prefix``."""
        index = bisect_left(self.words, prefix)
        return index < len(self.words) and self.words[index].startswith(prefix)


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """Yield the file, or an unpacked copy of it: KenLM's wheels cannot read gzip."""
    try:
        with path.open("rb") as file:
            start = file.read(len(BINARY))
    except OSError as error:
        raise ArpaError(f"{path}: found no readable file ({error.strerror})") from None
    if start == BINARY:
        raise ArpaError(f"{path}: found a binary file of KenLM, wanted the ARPA file it is from")
    if not start.startswith(GZIP):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.arpa"
        try:
            with gzip.open(path) as packed, plain.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            raise ArpaError(f"{path}: found a damaged gzip file ({error})") from None
        yield plain


def _unigrams(plain: Path, path: Path) -> Iterator[str]:
    """Yield the words of an ARPA file, in its order; what comes after them is left to KenLM.

    Raises
    ------
    ArpaError
        If the header or a word is malformed; names the file as ``path``.
    """
    with plain.open("rb") as file:
        numbered = enumerate(file, start=1)
        number, line = next(((n, s) for n, s in numbered if s.strip()), (1, b""))
        if line.strip() != rb"\data\ ".strip():
            raise _error(path, number, line, r"\data\ at the start of an ARPA file")
        wanted = 0
        for number, line in numbered:
            if line.startswith(b"ngram 1="):
                wanted = int(count) if (count := line[8:].strip()).isdigit() else 0
            if line.strip() == rb"\1-grams:":
                break
            if line.strip() and not re.fullmatch(rb"ngram \d+=\d+\s*", line):
                raise _error(path, number, line, r"'ngram ORDER=COUNT' or '\1-grams:'")
        else:
            raise ArpaError(rf"{path}: found no line '\1-grams:', wanted the words of the model")
        for _ in range(wanted):
            number, line = next(numbered, (number + 1, b""))
            fields = line.split(b"\t")
            try:
                yield fields[1].decode().strip()
            except (IndexError, UnicodeDecodeError):
                raise _error(
                    path,
                    number,
                    line,
                    f"LOG10-PROBABILITY tab WORD [tab BACK-OFF], {wanted} of them, in UTF-8",
                ) from None


def _error(path: Path, number: int, line: bytes, wanted: str, reason: str = "") -> ArpaError:
    found = line.decode(errors="replace").rstrip("\r\n")[:SHOWN]
    return ArpaError(
        f"{path}, line {number}: found {found!r}, wanted {wanted}"
        + (f" (KenLM: {reason})" if reason else "")
    )


def _explained(message: str, plain: Path, path: Path) -> ArpaError:
    """Return the error for what KenLM said: it counts bytes, people count lines."""
    at = _BYTE.search(message)
    told = _REASON.search(message)
    reason = _BYTE.sub("", told[1] if told else "").replace(" at ", "").strip()
    if at is None:
        return ArpaError(f"{path}: found an unreadable language model ({reason or message})")
    with plain.open("rb") as file:
        # KenLM stands before a number that it cannot read, and behind anything else.
        number, line = _line_at(file, int(at[1]) + ("ParseNumber" in message))
    if "End of file" in message:
        return _error(path, number, line, r"\end\ after the last n-gram", "end of file")
    order = re.search(r"in the (\d+)-gram", message)
    words = f"{order[1]} word(s)" if order else "words"
    wanted = f"LOG10-PROBABILITY tab {words} [tab BACK-OFF], as many as the header counts"
    return _error(path, number, line, wanted, reason)


def _line_at(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """Return the number of the line that holds the byte before ``offset``, from 1, and the line."""
    number, line = 0, b""
    while file.tell() < offset and (following := file.readline()):
        number, line = number + 1, following
    return number, line
