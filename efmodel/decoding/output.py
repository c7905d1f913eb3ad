"""Where transcripts go: to the terminal one after another, or into a folder, a file each."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efmodel.decoding.formats import FORMATS, ONE_AFTER_ANOTHER, plain
from efmodel.decoding.screen import Screen, coloured
from efmodel.decoding.sources import Source, output_names
from efmodel.errors import UserError

if TYPE_CHECKING:
    from efmodel.decoding.recogniser import Result


class Output:
    """Takes the results of recordings.

    Parameters
    ----------
    sources : Sequence of Source
        The recordings.
    formats : Sequence of str
        Names in ``FORMATS``; on a terminal one.
    folder : Path, optional
        Where the files go. It is made if it does not exist.
    words : bool
        Whether words are told apart by confidence and time.

    Raises
    ------
    UserError
        If the recordings cannot go there in these formats.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        formats: Sequence[str],
        folder: Path | None = None,
        words: bool = False,
    ) -> None:
        self._sources, self._formats, self._words = sources, formats, words
        self._paths: list[Path] = []
        if folder is None:
            _check_terminal(formats, len(sources))
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"output-dir: found {folder} ({error.strerror}), wanted a folder"
            ) from error
        self._paths = [folder / name for name in output_names(sources)]
        self._check_reference_texts()

    def _check_reference_texts(self) -> None:
        """Raise an error where a text beside its recording would be written over."""
        for source, path in zip(self._sources, self._paths, strict=True):
            text = path.with_name(f"{path.name}.txt")
            beside = os.path.dirname(source.path) == os.path.abspath(path.parent)
            if beside and "txt" in self._formats and text.exists():
                raise UserError(
                    f"output-dir: found {text} beside its recording, wanted another folder: it may "
                    "be the text that the recording is known to have"
                )

    def take(self, number: int, result: "Result", screen: Screen) -> None:
        """Print or write the result of a recording.

        Raises
        ------
        UserError
            If its file cannot be written.
        """
        source = self._sources[number]
        if self._paths:
            for name in self._formats:
                path = self._paths[number]
                content = FORMATS[name](result, source.name, self._words)
                _write(path.with_name(f"{path.name}.{name}"), content)
            return
        [name] = self._formats
        if name == "txt":
            before = f"{source.name}: " if len(self._sources) > 1 else ""
            screen.write(coloured(result, before) if self._words else before + plain(result.text))
        elif content := FORMATS[name](result, source.name, self._words):
            screen.write(content.removesuffix("\n"))


def _check_terminal(formats: Sequence[str], recordings: int) -> None:
    if len(formats) > 1:
        raise UserError(
            f"format: found {', '.join(formats)}, wanted one, or --output-dir for a file of each"
        )
    if recordings > 1 and formats[0] not in ONE_AFTER_ANOTHER:
        raise UserError(
            f"format: found {formats[0]} for {recordings} recordings, wanted --output-dir for a "
            f"file of each, or {' or '.join(ONE_AFTER_ANOTHER)}"
        )


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file's name may have bytes that are no text.
        path.write_text(content, "utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror})") from error
