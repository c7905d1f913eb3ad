"""The command ``ef-asr calibrate``: thresholds for a saved model, and what they cost and save."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efmodel.errors import UserError, shown_errors
from efmodel.light_imports import prepare_transformers

if TYPE_CHECKING:
    from rich.table import Table

    from efmodel.decoding.curve import Curve, Point

CURVE = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # tolerances at which the picture shows a policy
PICTURE = "calibration.png"


@shown_errors()
def calibrate(
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    data: Annotated[
        str, typer.Option(help="Held-out speech: a folder of recordings, or a corpus by name.")
    ],
    tolerance: Annotated[
        float,
        typer.Option(help="Word errors on top of the deepest exit's, as a share of them.", min=0),
    ] = 0.02,
) -> None:
    """Find when `--exit auto` stops: thresholds per exit, written into the model's config.json.

    Of the data the test half is used, or all if it has none. It must not be speech that the model
    was trained on: there every exit is too sure of itself.
    """
    from rich.console import Console

    prepare_transformers()
    from efmodel.model.loading import model_folder

    folder = model_folder(model)
    curve, half = _observed(folder, data)
    points = {name: curve.policy(name, tolerance) for name in curve.observed.scores}
    best = best_policy(curve.fixed()[-1].wer * (1 + tolerance), [p for p, _ in points.values()])
    _save(folder, {name: found for name, (_, found) in points.items()}, best)
    Console().print(f"{data} ({half}): {len(curve.observed.words)} utterances")
    Console().print(table(curve, [point for point, _ in points.values()]))
    picture = folder / PICTURE
    draw(curve, picture)
    print(f"--exit auto now follows {best}: {folder / 'config.json'}, {picture}")


def best_policy(allowed: float, points: "list[Point]") -> str:
    """Return the name of the policy with the least compute of those that are accurate enough."""
    accurate = [point for point in points if point.wer <= allowed + 1e-9] or points
    return min(accurate, key=lambda point: (point.compute, point.wer)).name


def _observed(folder: Path, data: str) -> tuple["Curve", str]:
    """Return what all exits make of a corpus, and which half of it that was."""
    from efmodel.decoding.curve import Curve
    from efmodel.decoding.observing import observe
    from efmodel.decoding.policy import SCORES
    from efmodel.decoding.stages import stage_costs
    from efmodel.evaluation import BATCH_SECONDS, Trial
    from efmodel.model.compute import multiply_adds
    from efmodel.model.stages import Engine

    trial = Trial.load(folder, data)
    network = trial.model
    if network.config.num_exits == 1:
        raise UserError(f"model: found one exit in {folder}, wanted several to choose from")
    engine = Engine(network)
    observed = observe(engine, trial.tokenizer, trial.utterances, list(SCORES), BATCH_SECONDS)
    mean = float(observed.seconds.mean())  # of an utterance
    stages = [cost.of(mean) / mean for cost in stage_costs(engine)]
    seconds = [sum(stages[: exit + 1]) for exit in range(len(stages))]
    layers = list(network.config.exit_layers)
    return Curve(observed, layers, multiply_adds(network.config), seconds), trial.half


def _save(folder: Path, thresholds: dict[str, list[float]], policy: str) -> None:
    """Write the thresholds into the model's configuration."""
    from efmodel.config import EarlyExitConfig

    config = EarlyExitConfig.from_pretrained(folder)
    config.update({"exit_thresholds": thresholds, "exit_policy": policy})
    config.save_pretrained(folder)


def table(curve: "Curve", policies: "list[Point]") -> "Table":
    """Return the table of fixed exits, policies and the oracle."""
    from rich.table import Table

    deepest = curve.fixed()[-1]
    shown = Table("stops at", "WER %", "against the deepest", "layers", "multiply-adds", "seconds")
    for point in (*curve.fixed(), *policies, curve.oracle()):
        shown.add_row(
            point.name,
            f"{100 * point.wer:.2f}",
            point.against(deepest),
            f"{point.layers:.1f}",
            f"{100 * point.compute / deepest.compute:.0f} %",
            f"{100 * point.seconds / deepest.seconds:.0f} %",
        )
    return shown


def draw(curve: "Curve", file: Path) -> None:
    """Draw WER over multiply-adds and over seconds: exits, policies, and the oracle."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = {"fixed exits": ("ks-", curve.fixed())}
    for name in curve.observed.scores:
        lines[name] = ("o-", [curve.policy(name, tolerance)[0] for tolerance in CURVE])
    lines["oracle"] = ("r*", [curve.oracle()])
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for name, (style, points) in lines.items():
        rates = [100 * point.wer for point in points]
        panels[0].plot([point.compute for point in points], rates, style, label=name)
        panels[1].plot([point.seconds for point in points], rates, style, label=name)
    panels[0].set_xlabel("multiply-adds per second of audio")
    panels[1].set_xlabel("seconds per second of audio")
    for panel in panels:
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("WER %")
    panels[0].legend()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
