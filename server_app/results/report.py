"""A run as a page for a browser: one file, no network, no script."""

import base64
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment

from efmodel import atomic_file
from efmodel.settings import Settings
from server_app.results.participation import participations
from server_app.results.versions import said
from server_app.run_folder import RunFolder, read_metrics

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td.words { text-align: left; }
img { max-width: 100%; }
.summary { font-size: 1.15em; }
code { background: #f3f3f3; padding: .1em .3em; }
"""

# Names and reasons come from nodes: Jinja escapes all that it is given.
PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ name }}</title>
<style>
{{ style }}</style>
<h1>{{ name }}</h1>
<p class="summary">{{ rounds | length }} of {{ wanted }} rounds; {{ nodes | length }} nodes;
{{ "%.1f" % megabytes }} MB exchanged{% if full %} ({{ "%.0f" % (100 * share) }} % of whole
models in float32){% endif %}; {{ failures }} client rounds lost;
{{ "%.0f" % minutes }} minutes.</p>
{% if evaluated %}
<h2>Error rates on the test split after round {{ evaluated.round }}</h2>
<table>
<tr><th></th>{% for _ in evaluated.wer %}<th>exit {{ loop.index }}</th>{% endfor %}</tr>
{% for name, rates in [("WER %", evaluated.wer), ("CER %", evaluated.cer)] %}
<tr><td>{{ name }}</td>{% for rate in rates %}<td>{{ "%.1f" % (100 * rate) }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% else %}
<p>No central evaluation: the server had no test speech.</p>
{% endif %}
{% if plot %}<img alt="WER and CER per exit over the rounds" src="data:image/png;base64,{{ plot }}">
{% endif %}
<h2>Nodes</h2>
<table>
<tr><th>node</th><th>capacity</th><th>rounds joined</th><th>of</th><th>minutes</th>
<th>audio minutes trained on</th><th>MB down</th><th>MB up</th><th>lost</th><th>why, last</th></tr>
{% for name, node in nodes.items() %}
<tr><td>{{ name }}</td><td class="words">{{ node.history() }}</td><td>{{ node.joined }}</td>
<td>{{ node.asked }}</td><td>{{ "%.1f" % (node.wall_seconds / 60) }}</td>
<td>{{ "%.1f" % (node.audio_seconds / 60) }}</td><td>{{ "%.1f" % (node.bytes_down / 1e6) }}</td>
<td>{{ "%.1f" % (node.bytes_up / 1e6) }}</td><td>{{ node.failures | length }}</td>
<td class="words">{% for round, why in node.failures.items() %}{% if loop.last %}round {{ round }}:
{{ why | truncate(160) }}{% endif %}{% endfor %}</td></tr>
{% endfor %}
</table>
<h2>Rounds</h2>
<table>
<tr><th>round</th><th>clients</th><th>failed</th><th>trainers per exit</th>
<th>train loss per exit</th><th>MB</th><th>seconds</th></tr>
{% for record in rounds %}
<tr><td>{{ record.round }}</td><td>{{ record.answered }} of {{ record.sampled }}</td>
<td>{{ record.failed }}</td><td>{{ record["trainers-per-exit"] | join(" ") }}</td>
<td>{% for loss in record.clients.get("train-loss", []) %}{{ "%.2f " % loss }}{% endfor %}</td>
<td>{{ "%.1f" % ((record["bytes-down"] + record["bytes-up"]) / 1e6) }}</td>
<td>{{ "%.0f" % (record["train-seconds"] + record["evaluate-seconds"]) }}</td></tr>
{% endfor %}
</table>
<h2>What was run</h2>
<p>Versions: {{ versions | join("; then ") }}.
The run config where it differs from the defaults:</p>
<table>
{% for key, value in changed.items() %}
<tr><td><code>{{ key }}</code></td><td class="words">{{ value }}</td></tr>
{% endfor %}
</table>
</html>
""")


def write_report(run: Path) -> Path:
    """Write a run's ``report.html``, finished or not, and return where it is.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run.
    ValueError
        If its ``command.json`` holds no JSON object.
    """
    folder = RunFolder.open(run)
    rounds = read_metrics(folder.metrics)
    config = folder.read_config()
    defaults = {name.replace("_", "-"): value for name, value in asdict(Settings()).items()}
    moved = sum(each["bytes-down"] + each["bytes-up"] for each in rounds)
    full = sum(each["bytes-down-full"] + each["bytes-up-full"] for each in rounds)
    page = PAGE.render(
        style=STYLE,
        name=folder.path.name,
        rounds=rounds,
        wanted=config["rounds"],
        nodes=participations(rounds),
        megabytes=moved / 1e6,
        full=full,
        share=moved / full if full else 0.0,
        failures=sum(each["failed"] for each in rounds),
        minutes=sum(each["train-seconds"] + each["evaluate-seconds"] for each in rounds) / 60,
        evaluated=next((each for each in reversed(rounds) if each["wer"]), None),
        plot=base64_of(folder.plot),
        versions=[said(each) for each in folder.about().get("versions", [{}])],
        changed={key: value for key, value in config.items() if value != defaults.get(key)},
    )
    atomic_file.write(folder.report, page.encode())
    return folder.report


def base64_of(path: Path) -> str:
    """Return a picture as a page holds it; nothing if there is none."""
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
