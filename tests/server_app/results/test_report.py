"""What a run leaves for people and for Prometheus, read back by a browser's and its own parser."""

import json
from datetime import datetime, timedelta
from html.parser import HTMLParser
from logging import WARNING

import pytest
from flwr.common import log
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from efmodel import cli
from server_app import prometheus, run_log
from server_app.results.participation import participations
from server_app.results.report import write_report
from server_app.run_folder import RunFolder

HOSTILE = '<script>alert("x")</script>'


def one_round(number: int, capacities: dict, failures: dict, wer: tuple = ()) -> dict:
    did = {"bytes_down": 100, "bytes_up": 90, "wall_seconds": 30.0, "audio_seconds": 6.0}
    joined = [name for name in capacities if name not in failures]
    return {
        "round": number, "sampled": len(capacities), "answered": len(joined), "spare": 0,
        "failed": len(failures), "failures": failures, "capacities": capacities,
        "nodes": {name: {"capacity": capacities[name], **did} for name in joined},
        "trainers-per-exit": [2, 1, 1], "bytes-down": 200, "bytes-up": 180,
        "bytes-down-full": 400, "bytes-up-full": 400, "clients": {"train-loss": [3.0, 2.0, 1.5]},
        "loss": [], "wer": list(wer), "cer": [each / 2 for each in wer],
        "train-seconds": 60.0, "evaluate-seconds": 6.0,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config({"rounds": 3, "lr": 0.5, "seed": 0})
    folder.write_round(one_round(1, {"pi": 3, HOSTILE: 1}, {}, wer=(0.5, 0.25, 0.125)))
    folder.write_round(one_round(2, {"pi": 3, HOSTILE: 1}, {"pi": "out of memory"}))
    folder.write_round(one_round(3, {"pi": 2, "late": 1}, {"ghost": "its query failed"}))
    return folder


def test_what_a_node_did_over_the_rounds(run):
    nodes = participations([json.loads(each) for each in run.metrics.open()])
    pi = nodes["pi"]
    assert (pi.asked, pi.joined, pi.failures) == (3, 2, {2: "out of memory"})
    assert (pi.wall_seconds, pi.bytes_down, pi.bytes_up) == (60.0, 200, 180)
    assert pi.history() == "3, from round 3 on 2"
    assert nodes["ghost"].failures == {3: "its query failed"} and nodes["ghost"].asked == 0


def test_nodes_are_in_the_order_of_their_numbers():
    names = [f"partition {number}" for number in range(12)] + ["pi"]
    rounds = [one_round(1, dict.fromkeys(reversed(names), 1), {})]
    assert list(participations(rounds)) == names


class Cells(HTMLParser):
    """The rows of a page's tables, and what it would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        elif tag in ("script", "link", "iframe") or not dict(attrs).get("src", "data:").startswith(
            "data:"
        ):
            self.loads.append(tag)

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())


def test_the_page_shows_each_node_and_loads_nothing(run):
    with run.metrics.open("a") as file:
        file.write('{"round": 4, "torn')
    page = Cells(write_report(run.path).read_text())
    assert page.loads == []
    rows = {row[0]: row for row in page.rows}
    assert rows["pi"][1:4] == ["3, from round 3 on 2", "2", "3"]
    assert rows["pi"][-2:] == ["1", "round 2: out of memory"]
    assert rows[HOSTILE][2:4] == ["2", "2"]
    assert rows["WER %"] == ["WER %", "50.0", "25.0", "12.5"]
    assert rows["lr"] == ["lr", "0.5"] and "seed" not in rows


def test_the_page_names_the_versions_that_the_run_ran_on(run):
    assert ["versions", "unknown"] in Cells(write_report(run.path).read_text()).rows
    for number in ("1.0", "1.0", "2.0"):
        run.add_versions({"python": "3.11.1", "torch": number})
    (named,) = [row for row in Cells(write_report(run.path).read_text()).rows if "versions" in row]
    assert named[1] == "python 3.11.1, torch 1.0; then python 3.11.1, torch 2.0"


def test_the_command_names_what_is_no_run(tmp_path):
    done = CliRunner().invoke(cli.build(), ["report", str(tmp_path)])
    assert done.exit_code == 2 and f"found no config.json in {tmp_path}" in done.output


def test_the_log_is_json_a_line_at_a_time(tmp_path):
    with run_log.written_to(tmp_path / "log.jsonl"):
        log(WARNING, "round %d: %s left out: %s", 2, "pi", 'out of "memory"\nand more')
    log(WARNING, "said after the run")
    (entry,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert entry["level"] == "WARNING"
    assert entry["message"] == 'round 2: pi left out: out of "memory"\nand more'
    assert datetime.fromisoformat(entry["time"]).utcoffset() == timedelta(0)


def test_prometheus_reads_the_status(run):
    prometheus.write(run, rounds=10)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(run.status.read_text())
        for sample in family.samples
    }
    assert found["ef_asr_round",] == 3 and found["ef_asr_rounds",] == 10
    assert found["ef_asr_clients_failed",] == 1 and found["ef_asr_bytes",] == 3 * 380
    assert found["ef_asr_wer", "2"] == 0.25  # of the last evaluation, two rounds ago
    assert found["ef_asr_node_rounds", "pi"] == 2 and found["ef_asr_node_capacity", "pi"] == 2
    assert found["ef_asr_node_failures", "ghost"] == 1
    assert found["ef_asr_node_rounds", HOSTILE] == 2
