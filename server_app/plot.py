"""Pictures of a run."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # servers have no screen

from matplotlib import pyplot  # noqa: E402


def plot_error_rates(rounds: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw WER and CER per exit over the rounds that were evaluated; nothing if none was."""
    evaluated = [record for record in rounds if record["wer"]]
    if not evaluated:
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharex=True, constrained_layout=True)
    for axis, key, name in zip(axes, ("wer", "cer"), ("WER", "CER"), strict=True):
        for exit, values in enumerate(zip(*(r[key] for r in evaluated), strict=True), start=1):
            numbers = [record["round"] for record in evaluated]
            percent = [100 * value for value in values]
            label = f"exit {exit}: {percent[-1]:.1f} %"
            axis.plot(numbers, percent, marker="o", markersize=3, label=label)
        axis.set(xlabel="round", ylabel=f"{name} (%)", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
