"""Undo what is particular in the spelling of well-known corpora."""

import re


def lower(text: str) -> str:
    """Convert transcripts in upper case to lower case."""
    return text.lower()


def join_clitics(text: str) -> str:
    """Convert TED-LIUM's spelling: "it 's <unk> you" becomes "it's you"."""
    text = re.sub(r"<[^>]*>", " ", text)
    # TED-LIUM writes a space before a contraction ("it 's") and a possessive apostrophe ("the
    # students ' work"). In "just 'cause" the apostrophe starts a word, and the space stays.
    return re.sub(r"\s+'(?=(?:s|t|re|ve|ll|d|m)?(?:\s|$))", "'", text)


def unquote(text: str) -> str:
    """Remove punctuation, and single quotes that are not inside a word."""
    text = text.translate(dict.fromkeys(map(ord, "\u2018\u2019\u0060\u00b4"), "'"))
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return re.sub(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u2026.,;:?!()\[\]]", " ", text)
