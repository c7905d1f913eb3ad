"""The command line imports what the command at hand needs, and no more."""

import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.testing import CliRunner

from efmodel import cli

HEAVY = ("torch", "flwr", "datasets", "transformers", "matplotlib")


def imported(statements: str, *arguments: str) -> set[str]:
    """Return which heavy libraries a fresh interpreter imports to run these statements."""
    report = f"import sys\ntry:\n {statements}\nfinally:\n print(*set({HEAVY}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", report, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.stdout, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["simulate", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    assert not imported("import efmodel.cli; efmodel.cli.main()", *arguments)


def test_report_imports_no_framework():
    run = Path(__file__).parents[1] / "data" / "run-0.1.0"
    with TemporaryDirectory() as folder:  # the report is written into the run folder
        copy = shutil.copytree(run, Path(folder) / "run")
        heavy = imported("import efmodel.cli; efmodel.cli.main()", "report", str(copy))
        assert (copy / "report.html").is_file()
    assert heavy <= {"matplotlib"}


@pytest.mark.parametrize(
    "statement",
    ["import efmodel", "import server_app", "from server_app.strategy import PartialFedAvg"],
)
def test_packages_import_neither_datasets_nor_matplotlib(statement):
    assert not imported(statement) & {"datasets", "matplotlib"}


def test_packages_hold_flower_s_entry_points_beside_modules_of_that_name():
    statements = (
        "import client_app, client_app.app, server_app, server_app.app;"
        "assert client_app.app.__class__.__name__ == 'ClientApp';"
        "assert server_app.app.__class__.__name__ == 'ServerApp'"
    )
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_lists_each_command_with_a_line():
    done = CliRunner().invoke(cli.build(), ["--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for line in (
        "simulate    Train across many simulated clients.",
        "doctor      Check server, TLS, certificate",
    ):
        assert line in done.stdout


def test_only_the_module_of_the_command_is_loaded(monkeypatch):
    broken = EntryPoint("broken", "no.such.module:command", "ef_asr.commands")
    plug_in = EntryPoint("greet", "tests.efmodel.test_cli:greet", "ef_asr.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: EntryPoints([broken, plug_in]))
    done = CliRunner().invoke(cli.build("greet"), ["greet", "--name", "you"])
    assert done.stdout == "hello you\n"
    with pytest.raises(ModuleNotFoundError):  # every command is asked for its line
        cli.build("--help")


def greet(name: str = "all") -> None:
    """Say hello."""
    print(f"hello {name}")
