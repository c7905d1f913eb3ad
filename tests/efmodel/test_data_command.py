"""``ef-asr data``: figures against a folder whose contents are known."""

import typer
from typer.testing import CliRunner

from efmodel.commands import data
from tests.conftest import write_folder


def ef_asr_data(*arguments: object):
    app = typer.Typer()
    app.command()(data)
    return CliRunner().invoke(app, list(map(str, arguments)))


def figures(stdout: str) -> dict[str, list[str]]:
    rows = [
        line.strip("\u2502").split("\u2502") for line in stdout.splitlines() if "\u2502" in line
    ]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_figures_of_a_folder(tmp_path):
    spoken = [
        ("a.wav", "one two", "x", 1.0),
        ("b.wav", "two", "x", 2.0),
        ("c.wav", "six!", "y", 3.0),
    ]
    bad = [
        ("bad.wav", "one", "y", 1.0),
        ("mute.wav", "...", "y", 1.0),
        ("long.wav", "a", "y", 31.0),
    ]
    folder = write_folder(tmp_path / "d" / "train", [*spoken, *bad])
    (folder / "bad.wav").write_bytes(b"no")
    write_folder(
        tmp_path / "d" / "test", [("t.wav", "ten", "z", 36.0), ("u.wav", "ten", "z", 18.0)]
    )
    done = ef_asr_data(tmp_path / "d")
    assert done.exit_code == 0, done.stderr
    found = figures(done.stdout)
    assert found["speakers"] == ["2", "1"] and found["utterances"] == ["3", "1"]
    assert found["hours"] == ["0.00", "0.01"] and found["words"] == ["4", "1"]
    assert found["shortest, median, longest s"] == ["1.0, 2.0, 3.0", "18.0, 18.0, 18.0"]
    assert found["median minutes a speaker"] == ["0.1", "0.3"]
    assert found["different words"] == ["3", "1"] and found["characters"] == ["12", "3"]
    assert found["skipped"] == ["3", "1"]
    assert "train: 3 skipped: no audio x1, no words x1, too long x1" in done.stdout
    assert "bad.wav: found no readable audio" in done.stdout
    assert "train: characters dropped: '.' x3, '!' x1" in done.stdout
    assert "t.wav: found 36.0 s of audio, wanted at most 30" in done.stdout


def test_missing_data_or_model_ends_with_2(tmp_path):
    done = ef_asr_data(tmp_path / "none")
    assert done.exit_code == 2 and "found no folder" in done.stderr
    done = ef_asr_data("librispeech", "--data-path", tmp_path)
    assert done.exit_code == 2 and "wanted a copy of openslr/librispeech_asr" in done.stderr
    done = ef_asr_data("sample", "--model", tmp_path)
    assert done.exit_code == 2 and "found no config.json" in done.stderr


def test_a_folder_without_a_usable_recording_ends_with_1(tmp_path):
    folder = write_folder(tmp_path / "d", [("a.wav", "one", "x", 1.0), ("b.wav", "two", "y", 1.0)])
    for file in folder.glob("*.wav"):
        file.unlink()
    done = ef_asr_data(folder)
    assert done.exit_code == 1 and figures(done.stdout)["skipped"] == ["2"]
    assert f"data: found no recording in {folder} that can be used" in done.stderr


def test_a_folder_in_any_script_is_read_whole_and_its_alphabet_is_shown(tmp_path):
    texts = ["خلف", "أمام", "خلف أمام", "عام ٢"]
    spoken = [(f"{n}{i}.wav", t, n, 2.0) for n in "xy" for i, t in enumerate(texts)]
    folder = write_folder(tmp_path / "d", spoken)
    done = ef_asr_data(folder)
    assert done.exit_code == 0, done.stderr
    found = figures(done.stdout)
    assert found["utterances"] == ["8"] and found["different words"] == ["4"]
    assert found["skipped"] == ["0"] and "characters dropped" not in done.stdout
    assert "vocabulary: 8 characters: أاخعفلم٢" in done.stdout
    assert "holds digits; with language=en" in done.stdout
    done = ef_asr_data(folder, "--language", "ar")
    assert figures(done.stdout)["different words"] == ["4"] and "اثنان" not in done.stderr
    assert "vocabulary: 36 characters" in done.stdout and "holds digits" not in done.stdout
    done = ef_asr_data(folder, "--vocabulary", "en")
    assert done.exit_code == 1 and "no words x" in done.stdout
    done = ef_asr_data(folder, "--language", "arabic")
    assert (
        done.exit_code == 2 and "language: found 'arabic', wanted empty, or one of" in done.stderr
    )
