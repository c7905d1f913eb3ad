"""The figures of a corpus: speakers, hours, words, and what training would skip."""

from efmodel.model.description import describe
from efmodel.speech import corpus, statistics
from efmodel.speech.statistics import Census


def count_corpus(data: str, copy: str, model: str) -> dict[str, Census]:
    """Count the halves of a corpus, "train" and, if there is one, "test".

    Parameters
    ----------
    data : str
        A folder of recordings, or a corpus by name.
    copy : str
        The folder of a local copy of a corpus on the Hub; empty for none.
    model : str
        Preset or saved model whose vocabulary and frames decide which utterances can be used.

    Raises
    ------
    ModelError
        If there is no such model.
    DataError
        If there is no such corpus.
    """
    config, tokenizer = describe(model)
    name, folder = corpus.named(data)
    source = corpus.load(name, folder or copy)
    halves = {"train": statistics.take(source.train, tokenizer, config, to_train=True)}
    if source.test is not None:
        halves["test"] = statistics.take(source.test, tokenizer, config, to_train=False)
    return halves
