"""Make ``efmodel/speech/bpe256.json``: 256 pieces of English words, learned by byte-pair encoding.

    python -m simulation.speech.make_bpe [--output PATH]

The text comes from two Debian packages. The King James Bible (bible-kjv-text, public domain) is
running text, so that frequent words become single pieces. The word list american-english
(wamerican: SCOWL, free to use for any purpose) adds the word parts of today's English, since it has
each word once.
"""

import re
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from efmodel.speech import vocabulary

SIZE = 256  # tokens, the blank among them
WORD_LIST = Path("/usr/share/dict/american-english")
BIBLE = ["bible", "-f", "Genesis1:1-Revelation22:21"]  # one verse a line, after its reference


def words(line: str) -> str:
    """Return a line's words in lower case, with only the letters a-z and the apostrophe."""
    letters = unicodedata.normalize("NFD", line).lower()
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.findall("[a-z']+", bare))


def lines() -> Iterator[str]:
    """Yield the lines of text to learn from."""
    bible = subprocess.run(BIBLE, check=True, capture_output=True, text=True).stdout
    for verse in bible.splitlines():
        yield words(verse.partition(" ")[2])
    for word in sorted(WORD_LIST.read_text(encoding="utf-8").splitlines()):
        yield words(word)


def main(output: Annotated[Path, typer.Option()] = vocabulary.BPE256) -> None:
    """Learn the pieces and write them."""
    definition = vocabulary.learned_pieces(lines(), SIZE, "the texts")
    output.write_text(definition, encoding="utf-8")
    print(f"{output}: {SIZE} tokens")


if __name__ == "__main__":
    typer.run(main)
