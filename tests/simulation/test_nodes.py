"""How many clients a simulation may have, said before anything starts."""

import pytest
import typer
from typer.testing import CliRunner

from simulation.simulate import simulate
from tests.conftest import write_folder


@pytest.mark.parametrize(
    ("partition", "most"),
    [("speaker", "2 speakers"), ("iid", "5 utterances"), ("dirichlet:0.5", "5 utterances")],
)
def test_nodes_are_bounded_by_what_is_dealt_out(tmp_path, partition, most):
    rows = [(f"{n}.wav", "one", "ab"[n % 2], 0.5) for n in range(5)]
    folder = write_folder(tmp_path / "d", rows)
    app = typer.Typer()
    app.command()(simulate)
    asked = ["--data", folder, "--nodes", 6, "--set", f"partition={partition}"]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == 2 and f"nodes: found 6, wanted 1 to {most}" in done.stderr
