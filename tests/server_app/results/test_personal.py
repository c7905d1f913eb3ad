"""Error rates over clients: the middle one, the worst ones, by capacity."""

import pytest

from server_app.results.personal import distributions, worst_tenth
from server_app.results.report import write_report
from server_app.run_folder import RunFolder


def client(capacity: int, words: int, before: int, after: int) -> dict:
    return {
        "capacity": capacity, "words": words, "characters": 4 * words,
        "word_errors": [before, after], "character_errors": [before, 2 * after],
    }  # fmt: skip


CLIENTS = {
    "a": client(1, 10, 4, 1),
    "b": client(1, 20, 2, 2),
    "c": client(3, 10, 9, 10),
}


def test_clients_count_alike_however_much_they_hold_out():
    everyone, weak, strong = distributions(CLIENTS, "word")
    assert (everyone.group, everyone.clients, everyone.units) == ("all", 3, 40)
    assert everyone.medians == (0.4, 0.1) and everyone.worst == (0.9, 1.0)
    assert (everyone.better, everyone.worse) == (1, 1)
    assert (weak.group, weak.clients) == ("capacity 1", 2)
    assert weak.medians == pytest.approx((0.25, 0.1)) and weak.worst == (0.4, 0.1)
    assert (strong.group, strong.medians) == ("capacity 3", (0.9, 1.0))
    assert distributions(CLIENTS, "character")[0].medians == (0.1, 0.05)
    assert distributions({}, "word") == []


@pytest.mark.parametrize(("number", "wanted"), [(1, 0), (10, 9), (11, 9.5), (20, 18.5), (21, 19)])
def test_the_worst_tenth_is_rounded_up(number, wanted):
    assert worst_tenth(list(range(number))) == wanted


def test_the_report_shows_them(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config({"rounds": 3, "personal": "heads"})
    before = write_report(folder.path).read_text()
    assert "worst tenth" not in before
    folder.write_personal(CLIENTS)
    page = "".join(write_report(folder.path).read_text().split())
    cells = ("capacity1", 2, 30, 25.0, 40.0, 10.0, 10.0, 1, 0)
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "fine-tuningitsheadsonthe" in page
