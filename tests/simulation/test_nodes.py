"""The number of simulated clients is checked before anything starts."""

import json
from pathlib import Path

import pytest
from click.testing import Result

from simulation.simulate import simulate
from tests.conftest import write_folder
from tests.simulation.command import invoke


def simulated(data: Path, *arguments: object) -> Result:
    """Return what ``ef-asr simulate`` prints for arguments that it refuses."""
    return invoke(simulate, "--data", data, *arguments)


def two_speakers(folder: Path) -> Path:
    return write_folder(folder, [(f"{n}.wav", "one", "ab"[n % 2], 0.5) for n in range(5)])


@pytest.mark.parametrize(
    ("partition", "nodes", "most"),
    [
        ("speaker", 3, "2, the number of training speakers"),
        ("speaker:2", 5, "4, 2 for each training speaker"),
        ("speaker:2", 6, "5, the number of training utterances"),
        ("iid", 6, "5, the number of training utterances"),
        ("dirichlet:0.5", 6, "5, the number of training utterances"),
    ],
)
def test_nodes_are_bounded_by_what_is_dealt_out(tmp_path, partition, nodes, most):
    asked = ["--nodes", nodes, "--set", f"partition={partition}"]
    done = simulated(two_speakers(tmp_path / "d"), *asked)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"nodes: found {nodes}, wanted at most {most}")


def test_no_nodes_are_no_simulation(tmp_path):
    done = simulated(two_speakers(tmp_path / "d"), "--nodes", 0)
    assert done.exit_code == 2 and "nodes: found 0, wanted a number from 1" in done.stderr


def run_of(nodes: int, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    about = {"method": "", "nodes": nodes, "commands": []}
    (folder / "command.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("had", "wanted"), [(1, 1), (0, 2)], ids=["of simulate", "of a sweep, one per speaker"]
)
def test_a_run_does_not_go_on_with_another_number_of_nodes(tmp_path, had, wanted):
    """Another number would divide the speech differently."""
    run = run_of(had, tmp_path / "run")
    done = simulated(two_speakers(tmp_path / "d"), "--nodes", 3, "--set", f"resume={run}")
    assert done.exit_code == 2
    assert f"nodes: found 3, wanted {wanted}, as in {run}" in done.stderr


@pytest.mark.parametrize("preset", [[], ["--preset", "centralised"]], ids=["plain", "preset"])
def test_a_run_goes_on_with_the_nodes_it_had(tmp_path, preset):
    """The message about 3 nodes shows that neither 2 (one per speaker) nor 1 was taken."""
    run = run_of(3, tmp_path / "run")
    done = simulated(two_speakers(tmp_path / "d"), *preset, "--set", f"resume={run}")
    assert done.exit_code == 2 and "nodes: found 3, wanted at most 2" in done.stderr
