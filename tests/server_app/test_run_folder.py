"""The folder of a run: new, opened, or only named."""

import json

import pytest

from server_app.run_folder import RunFolder, RunFolderError, read_metrics


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
