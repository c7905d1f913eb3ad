"""Each format, read back by a parser that is not the writer's."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest

from efmodel.decoding.formats import FORMATS, LINE, LONGEST, formats_named, segments, width
from efmodel.decoding.recogniser import Result
from efmodel.decoding.words import Word, text_of
from efmodel.errors import UserError

TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)[.,](\d{3})"


def result_of(words: list[Word], seconds: float = 60.0) -> Result:
    return Result(text_of(words), words, [2, 3], seconds, 0.1)


def spoken(text: str, start: float = 0.0, every: float = 0.4, long: float = 0.3) -> list[Word]:
    """Return words that begin at a steady pace."""
    return [
        Word(word, start + number * every, start + number * every + long, 0.9)
        for number, word in enumerate(text.split())
    ]


def milliseconds(text: str) -> int:
    match = re.fullmatch(TIME, text)
    assert match, text
    hours, minutes, seconds, thousandths = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def cues_of(text: str, separator: str) -> list[tuple[int, int, list[str]]]:
    """Parse SubRip or WebVTT as their descriptions say: blocks between empty lines."""
    blocks = [block.split("\n") for block in text.strip("\n").split("\n\n")]
    if separator == ".":
        assert blocks.pop(0) == ["WEBVTT"]
    elif not text:
        return []
    found = []
    for number, block in enumerate(blocks, start=1):
        if separator == ",":
            assert block.pop(0) == str(number)
        times, *lines = block
        start, end = times.split(" --> ")
        assert start[-4] == end[-4] == separator
        assert lines and not any("-->" in line for line in lines)
        found.append((milliseconds(start), milliseconds(end), lines))
    return found


def shown(result: Result) -> list[tuple[int, int, list[str]]]:
    """Return the cues, which both formats have alike and which are in order."""
    found = cues_of(FORMATS["srt"](result, "a.wav", False), ",")
    assert found == cues_of(FORMATS["vtt"](result, "a.wav", False), ".")
    latest = 0
    for start, end, lines in found:
        assert latest <= start < end
        assert len(lines) <= 2
        latest = end
    return found


def test_segments_end_at_pauses_and_are_neither_long_nor_wide():
    talk = spoken("the quick brown fox jumps over the lazy dog again and again " * 8)
    words = [*spoken("hello there"), *(word._replace(start=word.start + 2, end=word.end + 2)
                                       for word in talk)]  # fmt: skip
    parts = segments(words)
    assert [word for part in parts for word in part.words] == words
    assert parts[0].text == "hello there"
    assert all(part.end - part.start <= LONGEST for part in parts)
    assert all(len(part.words) > 3 for part in parts[1:])  # no word is left alone
    for _, _, lines in shown(result_of(words)):
        assert all(width(line) <= LINE for line in lines)


def test_a_segment_is_cut_at_its_longest_pause():
    before, after = spoken("a b c d e f g h i j"), spoken("k l m n o p q r s t", start=4.3)
    assert [part.text for part in segments(before + after)] == ["a b c d e f g h i j",
                                                                "k l m n o p q r s t"]  # fmt: skip


def test_a_script_without_spaces_has_lines_of_half_as_many_characters():
    words = [Word(c, i * 0.1, i * 0.1 + 0.1, 0.9) for i, c in enumerate("今日天気良晴雨" * 8)]
    found = shown(result_of(words))
    assert "".join(line for _, _, lines in found for line in lines) == "今日天気良晴雨" * 8
    assert max(len(line) for _, _, lines in found for line in lines) <= LINE // 2


def test_a_very_long_word_and_a_very_short_one():
    words = [Word("x" * 100, 0.0, 9.0, 0.5), Word("y", 9.0, 9.0, 0.5), Word("z", 9.0, 9.0, 0.5)]
    assert [lines for _, _, lines in shown(result_of(words, 9.0))][0] == ["x" * 100]


def test_a_subtitle_stays_a_second_unless_the_next_one_comes():
    words = [Word("a", 1.0, 1.04, 0.9), Word("b", 1.8, 1.84, 0.9), Word("c", 5.98, 6.0, 0.9)]
    assert shown(result_of(words, 6.0)) == [
        (1000, 1800, ["a"]),
        (1800, 2800, ["b"]),
        (5980, 6000, ["c"]),
    ]


def test_hours_and_marks_are_written_as_the_formats_want():
    words = [Word("a<b>", 360_000.0, 360_000.5, 0.9), Word("&", 360_000.5, 360_000.6, 0.9),
             Word("--->", 360_000.6, 360_000.7, 0.9)]  # fmt: skip
    result = result_of(words, 360_001.0)
    assert cues_of(FORMATS["srt"](result, "a", False), ",") == [
        (360_000_000, 360_001_000, ["a<b> & ->"])
    ]
    assert cues_of(FORMATS["vtt"](result, "a", False), ".") == [
        (360_000_000, 360_001_000, ["a&lt;b&gt; &amp; ---&gt;"])
    ]


def test_webvtt_with_words_has_times_that_grow_within_the_cue():
    words = spoken("one two three", start=1.0)
    words.insert(1, words[0]._replace(text="wun"))  # at the same time as the word before it
    text = FORMATS["vtt"](result_of(words), "a", True)
    assert text.splitlines()[2:] == [
        "00:00:01.000 --> 00:00:02.100",
        "one wun <00:00:01.400>two <00:00:01.800>three",
    ]


def test_json_has_everything_with_letters_as_they_are():
    words = [Word("خلف", 0.123456, 0.5, 0.91234567), Word('"q"\\', 0.5, 0.7, 0.4)]
    text = FORMATS["json"](result_of(words, 1.5), "ذ.wav", False)
    assert text.count("\n") == 1 and "خلف" in text
    value = json.loads(text)
    assert value["file"] == "ذ.wav" and value["text"] == 'خلف "q"\\'
    assert (value["seconds"], value["exit"], value["exits"]) == (1.5, 3, [2, 3])
    assert value["confidence"] == pytest.approx(0.6562, abs=1e-4)
    assert value["words"][0] == {"word": "خلف", "start": 0.123, "end": 0.5, "confidence": 0.9123}
    assert value["segments"] == [{"start": 0.123, "end": 0.7, "text": 'خلف "q"\\'}]


def test_tsv_is_a_table_of_segments_or_of_words():
    words = [Word('say "no"', 0.0, 0.5, 0.9), Word("tab\there", 2.0, 2.5, 0.25)]

    def rows(with_words: bool) -> list[list[str]]:
        text = FORMATS["tsv"](result_of(words), "a", with_words)
        return list(csv.reader(io.StringIO(text), delimiter="\t"))

    assert rows(False) == [["start", "end", "text"], ["0", "500", 'say "no"'],
                           ["2000", "2500", "tab here"]]  # fmt: skip
    assert rows(True)[2] == ["2000", "2500", "tab here", "0.2500"]


def test_a_recording_without_a_word_is_valid_in_each_format():
    empty = Result("", [], [], 0.1, 0.0)
    assert shown(empty) == []
    assert FORMATS["txt"](empty, "a", False) == "\n"
    assert json.loads(FORMATS["json"](empty, "a", False))["words"] == []
    assert FORMATS["tsv"](empty, "a", False) == "start\tend\ttext\n"
    assert FORMATS["vtt"](empty, "a", True) == "WEBVTT\n"


def test_formats_by_name():
    assert formats_named("srt, JSON,srt") == ["srt", "json"]
    assert formats_named("all") == ["txt", "json", "srt", "vtt", "tsv"]
    with pytest.raises(UserError, match="found 'jsn', wanted one of txt, .*did you mean 'json'"):
        formats_named("txt,jsn")


def test_what_a_device_without_torch_needs_imports_none():
    modules = "formats, listening, microphone, output, screen, sources"
    statement = (
        f"from efmodel.decoding import {modules}; import sys; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", statement], check=True)
