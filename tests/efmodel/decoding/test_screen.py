"""What a terminal shows, and what a pipe gets while a terminal shows progress."""

import io

import pytest

from efmodel.decoding.recogniser import Result
from efmodel.decoding.screen import Lines, Screen, coloured
from efmodel.decoding.words import Word

SURE, UNSURE, DOUBTFUL = Word("a", 0, 1, 0.9), Word("b", 1, 2, 0.6), Word("c", 2, 3, 0.1)
RED, YELLOW = "\x1b[31m", "\x1b[33m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def streams(monkeypatch):
    def make(stdout: io.StringIO, stderr: io.StringIO):
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setattr("sys.stderr", stderr)
        return stdout, stderr

    return make


def work(screen: Screen) -> None:
    with screen:
        screen.begin(20.0)
        screen.hear(10.0)
        screen.write("said [bold] :smile: " + "x" * 100)
        screen.fail("bad.wav: found [no] audio")
        screen.finish_one()


SAID = "said [bold] :smile: " + "x" * 100 + "\n"


def test_what_is_piped_has_nothing_but_the_text(streams):
    stdout, stderr = streams(io.StringIO(), Terminal())
    work(Screen(2))
    assert stdout.getvalue() == SAID
    shown = stderr.getvalue()
    assert "1/2" in shown and "10.0 s" in shown and f"{RED}bad.wav: found [no] audio" in shown


def test_without_a_terminal_there_is_no_bar(streams):
    stdout, stderr = streams(io.StringIO(), io.StringIO())
    work(Screen(2))
    assert (stdout.getvalue(), stderr.getvalue()) == (SAID, "bad.wav: found [no] audio\n")


def test_errors_go_to_a_file_while_the_text_is_on_a_terminal(streams):
    stdout, stderr = streams(Terminal(), io.StringIO())
    work(Screen(2))
    assert SAID in stdout.getvalue() and "1/2" not in stdout.getvalue()
    assert stderr.getvalue() == "bad.wav: found [no] audio\n"


def test_unsure_words_are_coloured(streams):
    stdout, _ = streams(Terminal(), Terminal())
    result = Result("a b c", [SURE, UNSURE, DOUBTFUL], [1], 3.0, 0.1)
    with Screen(1) as screen:
        screen.write(coloured(result, "x.wav: "))
    assert f"x.wav: a {YELLOW}b\x1b[0m {RED}c\x1b[0m\n" in stdout.getvalue()
    words = [Word("今", 0, 1, 0.9), Word("日", 1, 2, 0.1)]
    assert coloured(Result("今日", words, [1], 2.0, 0.1)).plain == "今日"


def test_a_line_that_grows_is_replaced_and_stays_when_it_is_complete(streams):
    stdout, _ = streams(Terminal(), Terminal())
    with Lines() as lines:
        assert lines.on_terminal
        lines.show(Result("a", [SURE], [1], 1.0, 0.1), complete=False)
        lines.show(Result("a b", [SURE, UNSURE], [1], 2.0, 0.1), complete=True)
        lines.show(Result("", [], [], 1.0, 0.1), complete=True)
    printed = stdout.getvalue()
    assert printed.count("a b\r\n") + printed.count("a b\n") == 1
    assert "\x1b[2K" in printed  # the line is cleared
    stdout, _ = streams(io.StringIO(), Terminal())
    with Lines() as lines:
        lines.show(Result("a", [SURE], [1], 1.0, 0.1), complete=False)
        lines.show(Result("a b", [SURE, UNSURE], [1], 2.0, 0.1), complete=True)
    assert stdout.getvalue() == "a b\n"
