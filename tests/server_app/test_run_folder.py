"""The folder of a run: new, opened, or only named."""

import json

import pytest

from server_app import run_folder
from server_app.federation import write_config
from server_app.run_folder import RunFolder, RunFolderError, line, read_metrics


def test_a_new_run_gets_a_folder_and_never_overwrites_another(tmp_path):
    folder = RunFolder.create(tmp_path / "deep" / "run")
    assert folder.path.is_dir()
    RunFolder.create(folder.path)  # nothing was run there
    folder.write_round({"round": 1})
    with pytest.raises(RunFolderError, match=f"output: {folder.path} holds a run already"):
        RunFolder.create(folder.path)


def test_without_a_name_a_new_run_goes_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder.create().path.parent == tmp_path / "ef-asr-runs"


def test_only_a_run_is_opened(tmp_path):
    with pytest.raises(RunFolderError, match="found no config.json in .*, wanted a run"):
        RunFolder.open(tmp_path)
    RunFolder.at(tmp_path).write_config({"lr": 1.0})
    assert RunFolder.open(str(tmp_path)).read_config() == {"lr": 1.0}


def test_the_files_of_a_path_are_named_without_making_any(tmp_path):
    folder = RunFolder.at(tmp_path / "none")
    assert folder.config == tmp_path / "none" / "config.json" and folder.about() == {}
    assert not folder.path.exists()


def test_a_run_config_of_version_0_1_0_is_read_with_the_keys_of_today(tmp_path):
    old = {"exit-loss": "weighted", "cache": False, "mask-bands": 3}
    (tmp_path / "config.json").write_text(json.dumps(old))
    new = {"exit-loss": "linear", "cache-mb": 0, "masks": "bands:3"}
    assert RunFolder.open(tmp_path).read_config() == new
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="config.json: found list, wanted a JSON object"):
        RunFolder.open(tmp_path).read_config()


def test_later_rounds_and_an_unfinished_line_are_dropped(tmp_path):
    folder = RunFolder.create(tmp_path)
    for number in (1, 2, 3):
        folder.write_round({"round": number})
    with folder.metrics.open("a") as file:
        file.write('{"round": 4, "half')
    folder.forget_after(2)
    assert read_metrics(folder.metrics) == [{"round": 1}, {"round": 2}]


def test_each_command_and_each_new_set_of_versions_is_kept(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.add_command("ef-asr simulate", "hetero", 4)
    folder.add_command("ef-asr simulate --set resume=X", "other", 9)
    for versions in ({"torch": "1"}, {"torch": "1"}, {"torch": "2"}):
        folder.add_versions(versions)
    assert folder.about() == {
        "method": "hetero",
        "nodes": 4,
        "commands": ["ef-asr simulate", "ef-asr simulate --set resume=X"],
        "versions": [{"torch": "1"}, {"torch": "2"}],
    }


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda _: "20261125-101500")
    made = [RunFolder.create(parent=tmp_path).path.name for _ in range(3)]
    assert made == ["20261125-101500", "20261125-101500-2", "20261125-101500-3"]


@pytest.mark.parametrize("where", [{"output": "file/run"}, {"output": "file"}, {"parent": "file"}])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=f"output: {tmp_path}/file.* cannot be made"):
        RunFolder.create(**where)


@pytest.mark.parametrize(
    ("spoilt", "found"),
    [
        ('{"round": 2', "found no JSON"),
        ("[2]", "found list, wanted a JSON object"),
        ('{"rounds": 2}', "found round None, wanted a number"),
        ("\udcff", "found no JSON"),
    ],
)
def test_a_spoilt_line_of_the_metrics_is_named(tmp_path, spoilt, found):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{{"round": 1}}\n{spoilt}\n{{"round": 3}}\n'.encode(errors="surrogateescape"))
    with pytest.raises(RunFolderError, match=f"{path}, line 2: {found}"):
        read_metrics(path)


def test_a_resumed_run_keeps_the_config_that_it_changes(tmp_path, caplog):
    folder = RunFolder.create(tmp_path)
    write_config(folder, {"lr": 0.1, "seed": 0, "rounds": 2}, after=0)
    write_config(folder, {"lr": 0.2, "seed": 0, "rounds": 2}, after=0)  # no round used the first
    write_config(folder, {"lr": 0.2, "seed": 0, "rounds": 4, "resume": "x"}, after=2)
    assert list(tmp_path.glob("config-to-*")) == [] and "resume:" not in caplog.text
    write_config(folder, {"lr": 0.5, "seed": 7, "rounds": 4}, after=2)
    write_config(folder, {"lr": 0.9, "seed": 7, "rounds": 4}, after=2)  # 0.5 was used for no round
    assert "resume: lr: 0.2 to round 2, 0.5 from now on" in caplog.text
    assert "resume: seed: 0 to round 2, 7 from now on" in caplog.text
    [kept] = tmp_path.glob("config-to-*")
    assert kept.name == "config-to-round-00002.json" and json.loads(kept.read_text())["lr"] == 0.2
    assert folder.read_config()["lr"] == 0.9


def test_reasons_of_a_lost_round_are_each_told_once():
    failures = {"a": "no microphone", "b": "no microphone", "c": "on fire"}
    record = {
        "round": 1, "answered": 0, "sampled": 3, "failed": 3, "spare": 0, "failures": failures,
        "trainers-per-exit": [0], "bytes-down": 1, "bytes-up": 0, "bytes-down-full": 1,
        "bytes-up-full": 0, "clients": {}, "wer": [], "cer": [], "train-seconds": 1.0,
        "evaluate-seconds": 0.0,
    }  # fmt: skip
    shown = line(record, 2)
    assert "nothing trained (a and 1 others: no microphone; c: on fire)" in shown
    assert "nothing trained" not in line({**record, "answered": 1}, 2)
