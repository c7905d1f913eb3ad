"""``ef-asr data``: what it shows against a folder whose contents are known."""

import numpy as np
import soundfile
import typer
from typer.testing import CliRunner

from efmodel.commands import data
from efmodel.speech import recordings
from tests.conftest import tone, write_folder


def ef_asr_data(*arguments: object, time: bool = False):
    app = typer.Typer()
    app.command()(data)
    options = [] if time else ["--no-time"]
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [*map(str, arguments), *options])


def figures(stdout: str) -> dict[str, list[str]]:
    rows = [
        line.strip("\u2502").split("\u2502") for line in stdout.splitlines() if "\u2502" in line
    ]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def lines(stdout: str) -> list[str]:
    return [" ".join(line.split()) for line in stdout.splitlines()]


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
    found, shown = figures(done.stdout), lines(done.stdout)
    assert found["speakers"] == ["2", "1"] and found["utterances"] == ["3", "1"]
    assert found["hours"] == ["0.00", "0.01"] and found["words"] == ["4", "1"]
    assert found["shortest, median, longest s"] == ["1.0, 2.0, 3.0", "18.0, 18.0, 18.0"]
    assert found["median minutes a speaker"] == ["0.1", "0.3"]
    assert found["different words"] == ["3", "1"] and found["characters"] == ["12", "3"]
    assert found["skipped"] == ["3", "1"]
    assert "layout EF-ASR" in shown and "x 2 0.1" in shown and "y 1 0.1" in shown
    for kind in ("no audio", "no words", "too long"):
        assert f"1 train: {kind}" in shown
    assert "bad.wav: found no readable audio" in done.stdout
    assert "t.wav: found 36.0 s of audio, wanted at most 30" in done.stdout
    assert "nothing wrong was heard" in shown


def test_letters_outside_the_vocabulary_and_what_becomes_of_them(tmp_path):
    rows = [("a.wav", "Größe 7", "x", 1.0), ("b.wav", "\u0645\u0631\u062d\u0628\u0627", "x", 1.0)]
    done = ef_asr_data(write_folder(tmp_path / "d", rows), "--vocabulary", "en")
    shown = lines(done.stdout)
    assert "in the vocabulary e g r" in shown
    assert (
        "spelt with others \u00df x1 \u00f6 x1" in shown
        or "spelt with others \u00f6 x1 \u00df x1" in shown
    )
    dropped = next(line for line in shown if line.startswith("dropped"))
    assert all(f"{letter} x1" in dropped for letter in "7\u0645\u062d")
    assert "72.7 % of the letters are not in the model's vocabulary" in shown
    assert "1 train: no words" in shown


def test_the_sound_of_a_sample_and_what_is_converted(tmp_path):
    names = ["clipped.wav", "offset.wav", "silent.wav", "cd.wav"]
    folder = write_folder(tmp_path / "d", [(name, "two", "x", 1.0) for name in names])
    soundfile.write(folder / "clipped.wav", np.clip(5 * tone(1.0), -1, 1), 16_000)
    soundfile.write(folder / "offset.wav", tone(1.0) + 0.2, 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "cd.wav", np.stack([tone(1.0, 44_100)] * 2, 1), 44_100)
    done = ef_asr_data(folder)
    shown = lines(done.stdout)
    assert "1 44100 Hz resampled to 16000" in shown and "1 2 channels mixed into one" in shown
    assert "Sound of 4 recordings, decoded as a sample" in shown
    assert "train: clipped x1" in shown and "train: silent x1" in shown
    assert "offset.wav: the samples' mean is +0.20, wanted 0" in shown
    assert "Sound of 2 recordings" in ef_asr_data(folder, "--listen", 2).stdout
    assert "Sound of" not in ef_asr_data(folder, "--listen", 0).stdout


def test_a_round_is_estimated_from_a_training_step(tmp_path):
    rows = [(f"{n}.wav", "one two", f"s{n % 8}", 1.0) for n in range(16)]
    done = ef_asr_data(write_folder(tmp_path / "d", rows), time=True)
    shown = " ".join(lines(done.stdout))
    assert "A round trains for about" in shown and "an estimate" in shown
    assert "3 clients" in shown and "each with 2 s of speech" in shown


def test_another_layout_is_shown_and_written_in_ours(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", tone(1.0), 16_000)
        (folder / f"{name}.txt").write_text(f"text of {name}")
    done = ef_asr_data(folder, "--write", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "layout pairs of files" in lines(done.stdout)
    assert "note found nothing that says who speaks" in " ".join(lines(done.stdout))
    assert f"{tmp_path / 'out'}: 2 copied" in " ".join(lines(done.stdout))
    written = recordings.audiofolder(tmp_path / "out")
    assert written.layout == "EF-ASR" and written.train["text"][:] == ["text of a", "text of b"]


def test_columns_with_unusual_names(tmp_path):
    folder = write_folder(tmp_path / "d", [("a.wav", "one", "x", 1.0)])
    (folder / "metadata.jsonl").unlink()
    (folder / "data.csv").write_text("path;satz\na.wav;one\n")
    assert ef_asr_data(folder).exit_code == 2
    assert figures(ef_asr_data(folder, "--columns", "text=satz").stdout)["utterances"] == ["1"]
    done = ef_asr_data(folder, "--columns", "satz")
    assert done.exit_code == 2 and "columns: found 'satz', wanted pairs" in done.stderr


def test_missing_data_or_model_ends_with_2(tmp_path):
    done = ef_asr_data(tmp_path / "none")
    assert done.exit_code == 2 and "found no folder" in done.stderr
    done = ef_asr_data("librispeech", "--data-path", tmp_path)
    assert done.exit_code == 2 and "wanted a copy of openslr/librispeech_asr" in done.stderr
    done = ef_asr_data("voxpopuli", "--language", "ar")
    assert done.exit_code == 2 and "language: found 'ar', wanted one that" in done.stderr
    done = ef_asr_data("sample", "--model", tmp_path)
    assert done.exit_code == 2 and "found no config.json" in done.stderr


def test_a_folder_without_a_usable_recording_ends_with_1(tmp_path):
    folder = write_folder(tmp_path / "d", [("a.wav", "one", "x", 1.0), ("b.wav", "two", "y", 1.0)])
    for file in folder.glob("*.wav"):
        file.unlink()
    done = ef_asr_data(folder, time=True)
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
    assert done.exit_code == 1 and "no words" in done.stdout
    done = ef_asr_data(folder, "--language", "arabic")
    assert done.exit_code == 2 and "language: found 'arabic', wanted a code" in done.stderr
