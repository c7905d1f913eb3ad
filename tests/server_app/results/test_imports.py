"""A report of finished runs starts quickly: it imports no heavy library that it does not use."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[2] / "data" / "run-0.1.0"
NEVER = {"torch", "flwr", "datasets", "transformers"}
# Runs `ef-asr report` in a fresh interpreter, and prints the modules that it has imported.
REPORT = """
import json, sys
import typer
from typer.testing import CliRunner
from server_app.commands import report
app = typer.Typer()
app.command()(report)
done = CliRunner().invoke(app, sys.argv[1:])
assert done.exit_code == 0, done.output
print(json.dumps(list(sys.modules)))
"""


def imported_by_report(*arguments: object) -> set[str]:
    command = [sys.executable, "-c", REPORT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_report_of_one_run_imports_neither_torch_nor_matplotlib(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    (run / "wer.png").write_bytes(b"a picture that is there already")
    assert not imported_by_report(run) & {*NEVER, "matplotlib"}
    assert "data:image/png;base64," in (run / "report.html").read_text()


def test_a_comparison_imports_matplotlib_and_not_torch(tmp_path):
    runs = [shutil.copytree(RUN, tmp_path / name) for name in ("one", "two")]
    modules = imported_by_report(*runs, "--output", tmp_path / "comparison")
    assert not modules & NEVER and "matplotlib" in modules
    assert (tmp_path / "comparison" / "comparison.html").is_file()
