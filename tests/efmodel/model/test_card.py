"""The model card: what it says, when it is kept, and that the Hub gets it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from efmodel import EarlyExitForCTC
from efmodel.model import card
from efmodel.model.card import Training

TRAINED = Training(
    facts={"data": "mls", "rounds": "9 of 9"},
    data="mls",
    dataset="facebook/multilingual_librispeech",
    language="de",
    base_model="facebook/wav2vec2-base",
    tested_on="the test split of mls",
    round=9,
    wer=(0.5, 0.25, 0.125),
    cer=(0.25, 0.125, 0.0625),
    adaptive="With adaptive exits: 13.0 % WER.",
)


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rows(text: str) -> list[list[str]]:
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_saved_models_card_tells_its_exits_and_invents_nothing(saved, model):
    written = ModelCard.load(saved / "README.md")
    header, *exits = [row for row in rows(written.text) if row[0] != "---"]
    assert header == ["exit", "after layer", "parameters"]
    for exit, row in enumerate(exits, start=1):
        size = sum(tensor.numel() for tensor in model.cut(exit).state_dict().values())
        layer = model.config.exit_layers[exit - 1]
        assert row == [str(exit), str(layer), f"{size / 1e6:.2f} M"]
    assert written.data.license == "unknown" and written.data.language is None
    assert written.data.eval_results is None and written.data.metrics is None
    assert "not recorded here" in written.text and "WER" not in written.text


def test_what_a_run_knows_is_in_the_table_and_in_what_the_hub_searches(saved):
    card.write(saved, TRAINED)
    written = ModelCard.load(saved / "README.md")
    table = rows(written.text)
    assert table[0][3:] == ["WER %", "CER %"]
    assert [row[3:] for row in table[2:]] == [["50.0", "25.0"], ["25.0", "12.5"], ["12.5", "6.2"]]
    data = written.data
    assert (data.language, data.base_model) == ("de", "facebook/wav2vec2-base")
    assert data.datasets == "facebook/multilingual_librispeech" and data.metrics == ["wer", "cer"]
    results = {each.metric_name: each.metric_value for each in data.eval_results}
    assert results["WER % at exit 3"] == 12.5 and results["CER % at exit 1"] == 25.0
    for said in ("- rounds: 9 of 9\n", "after round 9. With adaptive exits: 13.0 % WER.", "`de`"):
        assert said in written.text


def test_a_card_stays_with_its_weights_and_goes_with_no_others(saved, tmp_path):
    card.write(saved, TRAINED)
    text = (saved / "README.md").read_text().replace("license: unknown", "license: apache-2.0")
    (saved / "README.md").write_text(text)  # the owner's choice
    model = EarlyExitForCTC.from_pretrained(saved)
    for folder in (tmp_path / "copy", saved):
        model.save_pretrained(folder)
        assert (folder / "README.md").read_text() == text
    with torch.no_grad():
        next(model.parameters()).add_(1)
    for folder in (tmp_path / "cut", tmp_path / "trained", saved):
        (model.cut(2) if folder.name == "cut" else model).save_pretrained(folder)
        assert "not recorded here" in (folder / "README.md").read_text()


def test_weights_in_several_files_have_a_card_too(model, saved, tmp_path):
    model.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    wanted, found = ((each / "README.md").read_text() for each in (saved, tmp_path / "parts"))
    assert rows(found) == rows(wanted)
    assert card.describes(tmp_path / "parts" / "README.md", tmp_path / "parts")


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload needs: it takes every file with the commit."""

    def do_HEAD(self):
        found = self.path.endswith("README.md") and self.server.has_card
        self.send_response(200 if found else 404)
        for name, value in {
            "ETag": '"1"',
            "X-Repo-Commit": "0" * 40,
            "Content-Length": "1",
        }.items():
            self.send_header(name, value)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def do_GET(self):
        self.answer({"sha": "0" * 40, "siblings": [], "id": "me/model"})

    def do_POST(self):
        size = self.headers.get("Content-Length")
        body = self.rfile.read(int(size)) if size else b"".join(self.chunks())
        if self.path.endswith("/create"):
            self.answer({"url": f"{self.server.url}/me/model", "name": "me/model"})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content
            self.answer({"commitUrl": f"{self.server.url}/me/model/commit/1", "commitOid": "1"})

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.files, server.has_card = {}, False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    path = "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + path,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    huggingface_hub.close_session()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    huggingface_hub.close_session()


@pytest.mark.parametrize("has_card", [False, True])
def test_the_hub_gets_the_card_unless_the_repository_has_one(has_card, saved, hub_server):
    card.write(saved, TRAINED)
    hub_server.has_card = has_card
    model = EarlyExitForCTC.from_pretrained(saved)
    url = model.push_to_hub("me/model", token="none", commit_message="first")
    assert url == f"{hub_server.url}/me/model/commit/1"
    sent = hub_server.files
    assert {"config.json", "modeling_early_exit.py", "processor_config.json"} <= sent.keys()
    assert sent["model.safetensors"] == (saved / "model.safetensors").read_bytes()
    assert ("README.md" in sent) != has_card
    assert has_card or sent["README.md"] == (saved / "README.md").read_bytes()
