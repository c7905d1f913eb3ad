"""Pictures of a run and of a comparison. matplotlib is imported when the first one is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server_app.results.comparison import RATES, Axis, Method, SeedStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as MatplotlibAxis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import Formatter

COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
    "#f06bc4", "#17becf", "#b5a30a", "#111111", "#8c8c8c", "#00227a",
)  # fmt: skip
MARKERS = "os^DvPX*<>hd"
LINE_STYLES = ("-", "--", ":", "-.")  # the next style when the colours are used up
COLUMNS = 3  # panels in a row
WIDTH = 11.0  # inches
AXIS_LABELS = {
    Axis.ROUNDS: "rounds",
    Axis.BYTES: "bytes sent, down and up",
    Axis.COMPUTE: "client compute, multiply-adds",
}


@dataclass(frozen=True)
class Picture:
    """One picture of the comparison, as a PNG file."""

    file: Path
    caption: str


def colour(number: int) -> str:
    """Return the colour that the method with this number (from 0) has in every picture."""
    return COLOURS[number % len(COLOURS)]


def write_pictures(methods: list[Method], folder: Path) -> list[Picture]:
    """Draw every picture for which there are data, as PNG files in ``folder``, which must exist."""
    pictures = []
    for name, caption, figure in _figures(methods):
        file = folder / f"{name}.png"
        figure.savefig(file, dpi=120)
        pictures.append(Picture(file, caption))
    return pictures


def _figures(methods: list[Method]) -> "Iterator[tuple[str, str, Figure]]":
    """Yield each picture's name, caption and figure, in the order of the page."""
    evaluated_exits = max((len(method.final("wer")) for method in methods), default=0)
    trained_exits = max((len(method.trainers_per_exit()) for method in methods), default=0)
    for rate in RATES if evaluated_exits else ():
        caption = (
            f"{rate.upper()} at each exit after the last round: mean over seeds, standard "
            "deviation, and single seeds as small dots"
        )
        yield rate, caption, _final_rates(methods, rate, evaluated_exits)
    for axis, label in AXIS_LABELS.items():
        for rate in RATES if evaluated_exits else ():
            caption = (
                f"{rate.upper()} at each exit over {label}: mean and standard deviation, rates on "
                "a logarithmic scale"
            )
            if figure := _curves(methods, rate, evaluated_exits, axis):
                yield f"{rate}-over-{axis}", caption, figure
    if trained_exits:
        caption = "Clients that trained each exit's stage in a round: mean over rounds"
        yield "trainers", caption, _trainers(methods, trained_exits)


# Panels: one for each exit


def _panels(exits: int, height: float) -> "tuple[Figure, list[Axes]]":
    """Return a figure with a panel for each exit, ``height`` inches each, with shared axes."""
    from matplotlib.figure import Figure

    columns = min(exits, COLUMNS)
    rows = -(-exits // columns)
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True).flat)
    for panel in panels[exits:]:
        panel.set_visible(False)
    return figure, panels[:exits]


def _label_x(panels: "list[Axes]", label: str) -> None:
    """Label the x axis of each panel that has no other panel below it."""
    for exit, panel in enumerate(panels, start=1):
        lowest = exit + COLUMNS > len(panels)
        panel.tick_params(axis="x", labelbottom=lowest)
        panel.set_xlabel(label if lowest else "")


# Final error rates and trainers: a row for each method


def _panels_with_method_rows(methods: list[Method], exits: int) -> "tuple[Figure, list[Axes]]":
    """Return panels with a row for each method, whose label is at the left."""
    figure, panels = _panels(exits, height=0.9 + 0.27 * len(methods))
    for exit, panel in enumerate(panels, start=1):
        panel.set_title(f"exit {exit}", fontsize=11)
        panel.set_yticks(range(len(methods)), [method.label for method in methods], fontsize=9)
        panel.set_ylim(len(methods) - 0.4, -0.6)  # the first method on top
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    return figure, panels


def _start_at_zero(panels: "list[Axes]") -> None:
    """Start the shared x axis at 0 and leave room for the numbers at its end."""
    panels[0].set_xlim(0, 1.12 * panels[0].get_xlim()[1])


def _final_rates(methods: list[Method], rate: str, exits: int) -> "Figure":
    figure, panels = _panels_with_method_rows(methods, exits)
    for number, method in enumerate(methods):
        for panel, statistics in zip(panels, method.final(rate), strict=False):
            if statistics is not None:
                _draw_rate(panel, number, statistics)
    _start_at_zero(panels)
    _label_x(panels, f"{rate.upper()} (%)")
    return figure


def _draw_rate(panel: "Axes", number: int, statistics: SeedStatistics) -> None:
    """Draw a method's seeds, mean, deviation and the mean as a number in the method's row."""
    percents = [100 * value for value in statistics.values]
    mean, deviation = 100 * statistics.mean, 100 * (statistics.deviation or 0.0)
    panel.plot(percents, [number] * len(percents), ".", color=colour(number), alpha=0.45, ms=5)
    panel.errorbar(
        mean, number, xerr=deviation, color=colour(number),
        marker=MARKERS[number % len(MARKERS)], ms=6, capsize=3,
    )  # fmt: skip
    right_end = max(*percents, mean + deviation)
    panel.annotate(
        f"{mean:.1f}", (right_end, number), (7, 0), textcoords="offset points",
        va="center", fontsize=8,
    )  # fmt: skip


def _trainers(methods: list[Method], exits: int) -> "Figure":
    figure, panels = _panels_with_method_rows(methods, exits)
    for number, method in enumerate(methods):
        for panel, statistics in zip(panels, method.trainers_per_exit(), strict=False):
            if statistics is not None:
                bar = panel.barh(number, statistics.mean, height=0.7, color=colour(number))
                panel.bar_label(bar, fmt="%.1f", padding=3, fontsize=8)
    _title_with_stages(methods, panels)
    _start_at_zero(panels)
    _label_x(panels, "clients a round")
    return figure


def _title_with_stages(methods: list[Method], panels: "list[Axes]") -> None:
    """Name the layers of each exit's stage in the titles, if all models have the same exits."""
    runs = [run for method in methods for run in method.runs]
    distinct = {tuple(run.exit_layers) for run in runs if run.exit_layers}
    if len(distinct) != 1:
        return
    (exit_layers,) = distinct
    for exit, panel in enumerate(panels, start=1):
        panel.set_title(f"exit {exit}: {_stage(exit_layers, exit)}", fontsize=11)


def _stage(exit_layers: tuple[int, ...], exit: int) -> str:
    """Describe an exit's stage: what lies between the exit before it and the exit itself."""
    first, last = (0, *exit_layers)[exit - 1] + 1, exit_layers[exit - 1]
    layers = f"layer {last}" if first == last else f"layers {first}-{last}"
    return f"front end, {layers}" if exit == 1 else layers


# Curves: error rates over rounds, bytes or compute


def _curves(methods: list[Method], rate: str, exits: int, axis: Axis) -> "Figure | None":
    """Return the curves of all methods at all exits; None if there is no curve."""
    figure, panels = _panels(exits, height=3.4)
    lines: dict[str, Any] = {}
    for number, method in enumerate(methods):
        for exit, panel in enumerate(panels, start=1):
            if curve := method.curve(rate, exit, axis):
                lines[method.label] = _draw_curve(panel, number, curve)
    if not lines:
        return None
    for exit, panel in enumerate(panels, start=1):
        panel.set_title(f"exit {exit}", fontsize=11)
        _set_scales(panel, axis)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[::COLUMNS]:
        panel.set_ylabel(rate.upper())
    _label_x(panels, AXIS_LABELS[axis])
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
    return figure


def _draw_curve(panel: "Axes", number: int, curve: list[tuple[float, SeedStatistics]]) -> "Line2D":
    """Draw one method's mean with a band of one standard deviation; return the line."""
    positions = [position for position, _ in curve]
    means = [statistics.mean for _, statistics in curve]
    deviations = [statistics.deviation or 0.0 for _, statistics in curve]
    low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
    high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
    panel.fill_between(positions, low, high, color=colour(number), alpha=0.13, linewidth=0)
    (line,) = panel.plot(
        positions,
        means,
        color=colour(number),
        linestyle=LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
        marker=MARKERS[number % len(MARKERS)],
        markevery=max(1, len(curve) // 8),
        ms=4.5,
        linewidth=1.5,
    )
    return line


def _set_scales(panel: "Axes", axis: Axis) -> None:
    """Use logarithmic scales for rates, bytes and compute, and a linear one for rounds."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

    def set_ticks(scale: "MatplotlibAxis", steps: tuple[int, ...], formatter: "Formatter") -> None:
        scale.set_major_locator(LogLocator(subs=steps))
        scale.set_major_formatter(formatter)
        scale.set_minor_locator(NullLocator())

    panel.set_yscale("log", nonpositive="clip")
    set_ticks(panel.yaxis, (1, 2, 5), FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
    if axis != Axis.ROUNDS:
        panel.set_xscale("log", nonpositive="clip")
        set_ticks(panel.xaxis, (1, 3), EngFormatter("B" if axis == Axis.BYTES else ""))


# One run


def plot_error_rates(rounds: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw WER and CER per exit over the evaluated rounds; write no file if there are none."""
    evaluated = [record for record in rounds if record["wer"]]
    if not evaluated:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for panel, rate in zip(figure.subplots(1, 2, sharex=True), RATES, strict=True):
        numbers = [record["round"] for record in evaluated]
        by_exit = zip(*(record[rate] for record in evaluated), strict=True)
        for exit, rates in enumerate(by_exit, start=1):
            percents = [100 * value for value in rates]
            label = f"exit {exit}: {percents[-1]:.1f} %"
            panel.plot(numbers, percents, marker="o", markersize=3, label=label)
        panel.set(xlabel="round", ylabel=f"{rate.upper()} (%)", ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
