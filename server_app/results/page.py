"""The comparison of runs as a page for a browser: one file, no network, no script."""

from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.ticker import EngFormatter

from efmodel import atomic_file
from server_app.results.comparison import RATES, Method, Spread, group
from server_app.results.compute import UTTERANCE
from server_app.results.plots import colour, write_pictures
from server_app.results.report import STYLE, base64_of
from server_app.results.run import Run
from server_app.results.table import write_table
from server_app.results.versions import said

NOTHING = "–"
QUANTITY = EngFormatter(places=1)  # 97600000 as 97.6 M

# Names come from nodes, labels and commands from files: Jinja escapes all that it is given.
PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
{{ style | safe }}
body { max-width: 80em; }
.wide { overflow-x: auto; }
td, th { white-space: nowrap; padding: .25em .6em; }
td.words { white-space: normal; }
td.path { word-break: break-all; }
tr.exits th:first-child { text-align: right; }
.best { font-weight: bold; background: #e2f3e2; }
.deviation { color: #777; font-size: .8em; font-weight: normal; }
.many .deviation { display: block; line-height: 1; }
th.first { text-align: center; }
td.method { min-width: 10em; }
details { margin: .5em 0; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
.first { border-left: 2px solid #bbb; }
.warning { background: #fff3cd; padding: .5em 1em; }
figure { margin: 1.5em 0; }
figcaption { color: #555; }
pre { background: #f3f3f3; padding: .6em; white-space: pre-wrap; word-break: break-all; }
summary { cursor: pointer; }
</style>
<h1>{{ title }}</h1>
<p class="summary">{{ runs | length }} runs{% if unfinished %}, {{ unfinished }} of them
not finished{% endif %}; {{ failures }} client rounds lost.</p>
{% if data | length > 1 %}
<p class="warning">The runs were tested on different data ({{ data | join("; ") }}): their error
rates do not compare.</p>
{% endif %}
{% macro name(method) %}<td class="words method"><span class="swatch" style="background:
{{- method.colour }}"></span>{{ method.label }}{% if method.unfinished %} *{% endif %}</td>
{% endmacro %}
<h2>Error rates after the last round</h2>
{% if exits %}
<div class="wide"><table{% if exits > 3 %} class="many"{% endif %}>
<tr><th></th><th></th>{% for rate in rates %}<th class="first" colspan="{{ exits }}">
{{- rate | upper }} %</th>{% endfor %}</tr>
<tr><th>method</th><th>seeds</th>{% for rate in rates %}{% for exit in range(1, exits + 1) %}
<th>exit {{ exit }}</th>{% endfor %}{% endfor %}</tr>
{% for method in methods %}
<tr>{{ name(method) }}<td>{{ method.seeds | length }}</td>
{% for cells in method.rates %}{% for cell in cells %}
<td class="{% if loop.first %}first {% endif %}{% if cell.best %}best{% endif %}">{{ cell.mean }}
{%- if cell.deviation %} <span class="deviation">± {{ cell.deviation }}</span>{% endif %}</td>
{% endfor %}{% endfor %}</tr>
{% endfor %}
</table></div>
<p>Mean over seeds ± sample standard deviation (n − 1); the best of each column is marked{% if
data | length > 1 %} nowhere, since the data differ{% endif %}; {{ nothing }}: no model of that
depth was trained{% if untested %}, or the server had no test speech{% endif %}.</p>
{% else %}
<p>No central evaluation: the servers had no test speech.</p>
{% endif %}
{% if methods | selectattr("unfinished") | list %}
<p>* Not all its runs are finished, or there: the rates are those of their last evaluation so far,
and a seed that lacks a part which another has is not in the costs.</p>
{% endif %}
<h2>What it cost</h2>
<div class="wide"><table>
<tr><th>method</th><th>seeds</th><th>rounds</th><th>clients</th><th>client updates</th>
<th>speech heard</th><th>client compute</th><th>bytes sent</th><th>lost</th></tr>
{% for method in methods %}
<tr>{{ name(method) }}<td>{{ method.seeds | join(", ") }}</td><td>{{ method.rounds }}</td>
<td>{{ method.clients }}</td><td>{{ method.updates }}</td><td>{{ method.heard }}</td>
<td>{{ method.computed }}</td><td>{{ method.sent }}</td><td>{{ method.failures }}</td></tr>
{% endfor %}
</table></div>
<p>Means over seeds of what all rounds took. Client updates: usable replies. Speech heard: hours
that clients trained on, each as often as they did. Bytes: what was sent, down and up
({{ nothing }}: in no round was there more than one client){% if cohort %}; with coverage = cohort
too that is cut models, where a federation that averages whole ones (preset naive) would send
those{% endif %}.
Client compute: multiply-adds of local training, counted as three
forward passes a step (Kaplan et al., arXiv 2001.08361, section 2.1) of the model that each client
trains, most often the one cut at its capacity, utterances of {{ "%.0f" % utterance }} s; a frozen
part costs less ({{ nothing }}: unknown). Lost: client rounds without a usable reply, of all
runs.</p>
<h2>Pictures</h2>
{% for picture in pictures %}
<figure><img alt="{{ picture.caption }}" src="data:image/png;base64,{{ base64_of(picture.file) }}">
<figcaption>{{ picture.caption }}. <code>{{ picture.file.name }}</code></figcaption></figure>
{% endfor %}
<h2>What was run</h2>
<p>Versions of the runs: {{ versions | join("; ") }}.</p>
{% for method in methods %}
<details{% if methods | length == 1 %} open{% endif %}><summary>{{ method.label }}:
{{ method.runs | length }} run{{ "s" if method.runs | length > 1 }}</summary>
<div class="wide"><table>
<tr><th>run</th><th>seed</th>{% if method.compound %}<th>part</th>{% endif %}<th>rounds</th>
<th>clients</th><th>exits</th><th>data</th><th>lost</th></tr>
{% for run in method.runs %}
<tr><td class="words path">{{ run.path }}</td><td>{{ run.seed }}</td>
{% if method.compound %}<td>{{ run.part }}</td>{% endif %}
<td>{{ run.last_round }} of {{ run.config.rounds }}</td><td>{{ run.clients }}</td>
<td>{{ run.model.num_exits if run.model else nothing }}</td>
<td class="words">{{ run.data }}</td><td>{{ run.failures }}</td></tr>
{% endfor %}
</table></div>
<pre>{% for run in method.runs %}{% for command in run.commands %}{{ command }}
{% else %}# {{ run.path }}: it does not say by which command it was run
{% endfor %}{% endfor %}</pre></details>
{% endfor %}
</html>
""")


def write_comparison(folders: list[Path], output: Path) -> Path:
    """Write the comparison of runs, given by their folders; return where its page is.

    Pictures lie beside the page as PNG files, and in it; the figures as ``comparison.csv``.

    Raises
    ------
    ValueError
        If a run cannot be read, or two are the same part of one method with one seed.
    """
    methods = group(Run.read(folder) for folder in folders)
    output = output.expanduser().resolve()
    output.mkdir(parents=True, exist_ok=True)
    write_table(methods, output)
    runs = [run for method in methods for run in method.runs]
    data = sorted({run.data for run in runs})
    best = _best(methods) if len(data) == 1 else {}
    exits = max((len(method.final("wer")) for method in methods), default=0)
    page = PAGE.render(
        style=STYLE,
        title=f"Comparison of {len(methods)} method{'s' if len(methods) > 1 else ''}",
        nothing=NOTHING,
        rates=RATES,
        exits=exits,
        methods=[_row(number, method, best, exits) for number, method in enumerate(methods)],
        runs=runs,
        unfinished=sum(not run.finished for run in runs),
        untested=any(not any(record["wer"] for record in run.rounds) for run in runs),
        failures=sum(run.failures for run in runs),
        data=data,
        cohort=any(run.config["coverage"] == "cohort" for run in runs),
        utterance=UTTERANCE,
        pictures=write_pictures(methods, output),
        base64_of=base64_of,
        versions=list(dict.fromkeys(said(v) for run in runs for v in run.versions or [{}])),
    )
    file = output / "comparison.html"
    atomic_file.write(file, page.encode())
    return file


def _best(methods: list[Method]) -> dict[tuple[str, int], str]:
    """Return, by rate and exit, the lowest mean as it is shown, so that equals look equal."""
    best = {}
    for rate in RATES:
        columns = zip_longest(*(method.final(rate) for method in methods))
        for exit, found in enumerate(columns):
            if means := [each.mean for each in found if each]:
                best[rate, exit] = _percent(min(means))
    return best


def _row(
    number: int, method: Method, best: dict[tuple[str, int], str], exits: int
) -> dict[str, Any]:
    """Return what the page says of a method."""
    updates, heard = method.updates(), method.heard()
    sent, computed = method.sent(), method.computed()
    return {
        "label": method.label,
        "colour": colour(number),
        "runs": method.runs,
        "compound": method.repetitions[0].compound,
        "unfinished": method.unfinished,
        "seeds": [repetition.runs[0].seed for repetition in method.repetitions],
        "rates": [_cells(method.final(rate), rate, best, exits) for rate in RATES],
        "rounds": _each_once(_rounds(run) for run in method.runs),
        "clients": _each_once(str(run.clients) for run in method.runs),
        "updates": f"{updates.mean:.0f}" if updates else NOTHING,
        "heard": f"{heard.mean / 3600:.2f} h" if heard else NOTHING,
        "sent": f"{QUANTITY(sent.mean)}B" if sent else NOTHING,
        "computed": QUANTITY(computed.mean) if computed else NOTHING,
        "failures": sum(run.failures for run in method.runs),
    }


def _cells(
    figures: list[Spread | None], rate: str, best: dict[tuple[str, int], str], exits: int
) -> list[dict[str, Any]]:
    """Return a row's cells of one rate, ``exits`` of them whatever the method has."""
    cells = []
    for exit, found in enumerate([*figures, *[None] * (exits - len(figures))]):
        cell: dict[str, Any] = {"mean": NOTHING}
        if found:
            cell["mean"] = _percent(found.mean)
            cell["deviation"] = _percent(found.deviation) if found.deviation is not None else ""
            cell["best"] = cell["mean"] == best.get((rate, exit))
        cells.append(cell)
    return cells


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _rounds(run: Run) -> str:
    last, wanted = run.last_round, run.config["rounds"]
    return str(last) if run.finished else f"{last} of {wanted}"


def _each_once(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
