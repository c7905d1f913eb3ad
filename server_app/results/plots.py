"""Pictures of a comparison: a panel for each exit, one colour for each method in all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, LogLocator, NullLocator

from server_app.results.comparison import RATES, Method, Spread

COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
    "#f06bc4", "#17becf", "#b5a30a", "#111111", "#8c8c8c", "#00227a",
)  # fmt: skip
MARKERS = "os^DvPX*<>hd"
LINES = ("-", "--", ":", "-.")  # for the methods that find all colours taken
COLUMNS = 3  # panels beside one another
WIDTH = 11.0  # inches


@dataclass(frozen=True)
class Picture:
    """One figure of the comparison, as a PNG file."""

    file: Path
    caption: str


def colour(number: int) -> str:
    """Return the colour of the method with this number, from 0, in every picture."""
    return COLOURS[number % len(COLOURS)]


def write_pictures(methods: list[Method], folder: Path) -> list[Picture]:
    """Draw what can be drawn into ``folder``, which must be there."""
    exits = max((len(method.final("wer")) for method in methods), default=0)
    trained = max((len(method.trainers()) for method in methods), default=0)
    pictures = []

    def keep(figure: Figure, name: str, caption: str) -> None:
        file = folder / f"{name}.png"
        figure.savefig(file, dpi=120)
        pictures.append(Picture(file, caption))

    for rate in RATES if exits else ():
        caption = (
            f"{rate.upper()} at each exit after the last round: the mean over seeds, its standard "
            "deviation, and as small dots the seeds"
        )
        keep(_rates(methods, rate, exits), rate, caption)
    for over, (axis, formatter) in AXES.items():
        for rate in RATES if exits else ():
            if figure := _curves(methods, rate, exits, over, formatter):
                caption = (
                    f"{rate.upper()} at each exit over {axis}: mean and standard deviation, "
                    "rates on a logarithmic scale"
                )
                keep(figure, f"{rate}-over-{NAMES[over]}", caption)
    if trained:
        caption = "Clients a round that trained what stands behind each exit: the mean over rounds"
        keep(_trainers(methods, trained), "trainers", caption)
    return pictures


AXES: dict[str, tuple[str, Callable[[], Any] | None]] = {
    "round": ("rounds", None),
    "sent": ("bytes sent, down and up", lambda: EngFormatter("B")),
    "computed": ("client compute, multiply-adds", EngFormatter),
}
NAMES = {"round": "rounds", "sent": "bytes", "computed": "compute"}


def _panels(exits: int, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each exit, ``height`` inches each."""
    columns = min(exits, COLUMNS)
    rows = -(-exits // columns)
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for panel in panels[exits:]:
        panel.set_visible(False)
    return figure, panels[:exits]


def _label_below(panels: list[Axes], exit: int, label: str) -> None:
    """Label the axis of a panel that has no other one below it."""
    lowest = exit + COLUMNS > len(panels)
    panels[exit - 1].tick_params(axis="x", labelbottom=lowest)
    panels[exit - 1].set_xlabel(label if lowest else "")


def _log_ticks(axis: Axis, steps: tuple[int, ...], formatter: Formatter) -> None:
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(NullLocator())


def _finish(panels: list[Axes], label: str) -> None:
    """Start the panels at 0, leave room for the numbers, and label them."""
    panels[0].set_xlim(0, 1.12 * panels[0].get_xlim()[1])
    for exit in range(1, len(panels) + 1):
        _label_below(panels, exit, label)


def _by_method(methods: list[Method], exits: int) -> tuple[Figure, list[Axes]]:
    """Return panels with a line for each method, named at the left."""
    height = 0.9 + 0.27 * len(methods)
    figure, panels = _panels(exits, height, sharey=True, sharex=True)
    for exit, panel in enumerate(panels, start=1):
        panel.set_title(f"exit {exit}", fontsize=11)
        panel.set_yticks(range(len(methods)), [method.label for method in methods], fontsize=9)
        panel.set_ylim(len(methods) - 0.4, -0.6)  # the first on top
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    return figure, panels


def _rates(methods: list[Method], rate: str, exits: int) -> Figure:
    figure, panels = _by_method(methods, exits)
    for number, method in enumerate(methods):
        for panel, found in zip(panels, method.final(rate), strict=False):
            if found is not None:
                _point(panel, number, found)
    _finish(panels, f"{rate.upper()} (%)")
    return figure


def _point(panel: Axes, number: int, found: Spread) -> None:
    percent = [100 * value for value in found.values]
    panel.plot(percent, [number] * len(percent), ".", color=colour(number), alpha=0.45, ms=5)
    panel.errorbar(
        100 * found.mean,
        number,
        xerr=100 * (found.deviation or 0.0),
        color=colour(number),
        marker=MARKERS[number % len(MARKERS)],
        ms=6,
        capsize=3,
    )
    right = max(*percent, 100 * (found.mean + (found.deviation or 0.0)))
    panel.annotate(
        f"{100 * found.mean:.1f}", (right, number), (7, 0), textcoords="offset points",
        va="center", fontsize=8,
    )  # fmt: skip


def _curves(
    methods: list[Method], rate: str, exits: int, over: str, formatter: Any
) -> Figure | None:
    """Return the curves of all methods at all exits; None if no method has any."""
    figure, panels = _panels(exits, 3.4, sharey=True, sharex=True)
    lines: dict[str, Any] = {}
    for number, method in enumerate(methods):
        for exit, panel in enumerate(panels, start=1):
            if curve := method.curve(rate, exit, over):
                lines[method.label] = _line(panel, number, curve)
    if not lines:
        return None
    for exit, panel in enumerate(panels, start=1):
        panel.set_title(f"exit {exit}", fontsize=11)
        _label_below(panels, exit, AXES[over][0])
        panel.set_yscale("log", nonpositive="clip")
        _log_ticks(panel.yaxis, (1, 2, 5), FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
        if formatter is not None:
            panel.set_xscale("log", nonpositive="clip")
            _log_ticks(panel.xaxis, (1, 3), formatter())
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[::COLUMNS]:
        panel.set_ylabel(rate.upper())
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
    return figure


def _line(panel: Axes, number: int, curve: list[tuple[float, Spread]]) -> Any:
    places = [place for place, _ in curve]
    means = [found.mean for _, found in curve]
    low = [found.mean - (found.deviation or 0.0) for _, found in curve]
    high = [found.mean + (found.deviation or 0.0) for _, found in curve]
    panel.fill_between(places, low, high, color=colour(number), alpha=0.13, linewidth=0)
    (line,) = panel.plot(
        places,
        means,
        color=colour(number),
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markevery=max(1, len(curve) // 8),
        ms=4.5,
        linewidth=1.5,
    )
    return line


def _trainers(methods: list[Method], exits: int) -> Figure:
    figure, panels = _by_method(methods, exits)
    for number, method in enumerate(methods):
        for panel, found in zip(panels, method.trainers(), strict=False):
            if found is not None:
                bar = panel.barh(number, found.mean, height=0.7, color=colour(number))
                panel.bar_label(bar, fmt="%.1f", padding=3, fontsize=8)
    layers = {tuple(run.model.exit_layers) for m in methods for run in m.runs if run.model}
    for exit, panel in enumerate(panels, start=1):
        if len(layers) == 1:
            panel.set_title(f"exit {exit}: {_layers(next(iter(layers)), exit)}", fontsize=11)
    _finish(panels, "clients a round")
    return figure


def _layers(exit_layers: tuple[int, ...], exit: int) -> str:
    """Say which layers an exit is the first to need."""
    first, last = (0, *exit_layers)[exit - 1] + 1, exit_layers[exit - 1]
    layers = f"layer {last}" if first == last else f"layers {first}-{last}"
    return f"front end, {layers}" if exit == 1 else layers


def plot_error_rates(rounds: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw WER and CER per exit over the rounds that were evaluated; nothing if none was."""
    evaluated = [record for record in rounds if record["wer"]]
    if not evaluated:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
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
