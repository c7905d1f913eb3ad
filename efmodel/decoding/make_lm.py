"""Make an n-gram language model from texts: ``python -m efmodel.decoding.make_lm --help``.

Smoothing is interpolated Kneser-Ney with one discount per order (Kneser and Ney 1995; Chen and
Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 2.7):

    P(w | h) = max(c(h w) - D, 0) / c(h .) + D * N(h .) / c(h .) * P(w | h without its first word)

c counts n-grams in the texts for the highest order and for those that start a sentence; for others
it counts the different words that come before them. N(h .) is the number of different words after
h. D is n1 / (n1 + 2 n2), where n1 n-grams of that order have a count of 1, and n2 of 2. Below
single words stands the uniform distribution over all words, ``</s>`` and ``<unk>``.

All counts are in memory: for hundreds of millions of words use KenLM's ``lmplz``.
"""

import gzip
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, TextIO

import typer

from efmodel.errors import UserError, shown_errors
from efmodel.speech.normaliser import in_units
from efmodel.speech.spelling import Spelling

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
ORDER = 3
MIN_ORDER, MAX_ORDER = 2, 6  # what KenLM's wheels read
DISCOUNT = 0.5  # of an order in which no n-gram has a count of 1, or none of 2
NEVER = 1e-99  # probability of <s>, which starts every sentence and follows no word

NGram = tuple[str, ...]


class Entry(NamedTuple):
    """Probability of an n-gram's last word after the others, and its weight when backing off."""

    prob: float
    backoff: float


def ngram_model(sentences: Iterable[str], order: int = ORDER) -> list[dict[NGram, Entry]]:
    """Return the n-grams of a language model, by order from 1.

    Parameters
    ----------
    sentences : Iterable of str
        Words separated by spaces. In scripts without spaces each character is a word.
    order : int
        Words of the longest n-gram.

    Raises
    ------
    UserError
        If there are no words.
    """
    counts = _counts(sentences, order)
    if not counts[0]:
        raise UserError("texts: found no words, wanted at least one")
    counts[0][(UNKNOWN,)] = 0
    lower: dict[NGram, float] = {(): 1 / len(counts[0])}
    probs, backoffs = [], []
    for size, of_size in enumerate(counts):
        discount = _discount(of_size)
        totals: Counter[NGram] = Counter()  # c(h .)
        kinds: Counter[NGram] = Counter()  # N(h .)
        for ngram, count in of_size.items():
            totals[ngram[:-1]] += count
            kinds[ngram[:-1]] += count > 0
        weights = {h: discount * kinds[h] / total for h, total in totals.items()}
        lower = {
            ngram: max(count - discount, 0) / totals[ngram[:-1]]
            + weights[ngram[:-1]] * lower[ngram[1:] if size else ()]
            for ngram, count in of_size.items()
        }
        probs.append(lower)
        backoffs.append(weights)
    probs[0][(START,)] = NEVER
    backoffs.append({})  # the longest n-grams are no history
    return [
        {ngram: Entry(prob, weights.get(ngram, 1.0)) for ngram, prob in of_size.items()}
        for of_size, weights in zip(probs, backoffs[1:], strict=True)
    ]


def _counts(sentences: Iterable[str], order: int) -> list[Counter[NGram]]:
    """Return the counts c of n-grams, by order from 1."""
    seen: list[Counter[NGram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = in_units(sentence).split()
        if not words:
            continue
        padded = (START, *words, END)
        seen[-1].update(zip(*(padded[i:] for i in range(order)), strict=False))
        for size in range(2, min(order, len(padded) + 1)):
            seen[size - 1][padded[:size]] += 1  # nothing comes before it
    for size in range(order - 1, 0, -1):
        seen[size - 1].update(ngram[1:] for ngram in seen[size])
    return seen


def _discount(counts: Counter[NGram]) -> float:
    once = sum(count == 1 for count in counts.values())
    twice = sum(count == 2 for count in counts.values())
    return once / (once + 2 * twice) if once and twice else DISCOUNT


def write_arpa(model: list[dict[NGram, Entry]], file: TextIO) -> None:
    """Write a language model in the ARPA format."""
    file.write("\\data\\\n")
    file.writelines(f"ngram {size}={len(ngrams)}\n" for size, ngrams in enumerate(model, start=1))
    for size, ngrams in enumerate(model, start=1):
        file.write(f"\n\\{size}-grams:\n")
        for ngram in sorted(ngrams):
            prob, backoff = map(math.log10, ngrams[ngram])
            tail = f"\t{backoff:.6f}" if size < len(model) and ngram[-1] != END else ""
            file.write(f"{prob:.6f}\t{' '.join(ngram)}{tail}\n")
    file.write("\n\\end\\\n")


def read_sentences(files: Iterable[Path], spelling: Spelling) -> Iterator[str]:
    """Yield the lines of text files, normalised.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    for file in files:
        try:
            with _opened(file, "rt") as lines:
                yield from (spelling.spell(line).words for line in lines)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: found no text in UTF-8 ({error})") from None


def _opened(path: Path, mode: str) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, mode, encoding="utf-8")  # type: ignore[return-value]


@shown_errors()
def make_lm(
    texts: Annotated[
        list[Path], typer.Argument(help="Text files, plain or .gz: a sentence a line.")
    ],
    output: Annotated[Path, typer.Option(help="The file to write; packed if it ends in .gz.")],
    order: Annotated[
        int, typer.Option(min=MIN_ORDER, max=MAX_ORDER, help="Words of the longest n-gram.")
    ] = ORDER,
    model: Annotated[
        Path | None,
        typer.Option(help="Write the texts in this model's characters; else in small letters."),
    ] = None,
) -> None:
    """Make an n-gram language model (ARPA) from texts, with interpolated Kneser-Ney smoothing."""
    spelling = Spelling()
    if model is not None:
        from efmodel.model import loading
        from efmodel.speech.text import spelling_of

        spelling = spelling_of(loading.load(model)[1])
    ngrams = ngram_model(read_sentences(texts, spelling), order)
    try:
        with _opened(output, "wt") as file:
            write_arpa(ngrams, file)
    except OSError as error:
        raise UserError(f"--output: found {output}, wanted a file to write ({error})") from None
    print(f"{output}: " + ", ".join(f"{len(n)} {i}-grams" for i, n in enumerate(ngrams, start=1)))


if __name__ == "__main__":
    typer.run(make_lm)
