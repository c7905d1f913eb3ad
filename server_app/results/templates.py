"""The HTML of the report pages, as Jinja templates: a page loads nothing and runs no script.

They are strings in a module because a Flower app bundle holds no HTML files.
"""

from jinja2 import Environment, Template

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td.words { text-align: left; }
img { max-width: 100%; }
.summary { font-size: 1.15em; }
code { background: #f3f3f3; padding: .1em .3em; }
"""

RUN_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ name }}</title>
<style>
{{ style }}</style>
<h1>{{ name }}</h1>
<p class="summary">{{ rounds | length }} of {{ config.rounds }} rounds; {{ nodes | length }} nodes;
{{ "%.1f" % megabytes }} MB exchanged{% if full %} ({{ "%.0f" % (100 * share) }} % of whole
models in float32){% endif %}; {{ failures }} client rounds lost;
{{ "%.0f" % minutes }} minutes.</p>
{% if training.wer %}
<h2>Error rates on {{ training.tested_on }} after round {{ training.round }}</h2>
<table>
<tr><th></th>{% for _ in training.wer %}<th>exit {{ loop.index }}</th>{% endfor %}</tr>
{% for name, rates in [("WER %", training.wer), ("CER %", training.cer)] %}
<tr><td>{{ name }}</td>{% for rate in rates %}<td>{{ "%.1f" % (100 * rate) }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% if training.adaptive %}<p>{{ training.adaptive }}</p>{% endif %}

{% else %}
<p>No central evaluation: the server had no test speech.</p>
{% endif %}
{% if plot %}<img alt="WER and CER per exit over the rounds" src="data:image/png;base64,{{ plot }}">
{% endif %}
{% if personal %}
<h2>Error rates over the clients, each on its own held-out speech at its deepest exit</h2>
{% for rate, unit, groups in personal %}
<table>
<tr><th>{{ rate }} %</th><th>clients</th><th>{{ unit }}s</th><th>median</th>
<th>worst tenth</th><th>median, personal</th><th>worst tenth, personal</th><th>better</th>
<th>worse</th></tr>
{% for each in groups %}
<tr><td>{{ each.group }}</td><td>{{ each.clients }}</td><td>{{ each.units }}</td>
{% for value in (each.medians[0], each.worst[0], each.medians[1], each.worst[1]) %}
<td>{{ "%.1f" % (100 * value) }}</td>{% endfor %}<td>{{ each.better }}</td><td>{{ each.worse }}</td>
</tr>
{% endfor %}
</table>
{% endfor %}
<p>Worst tenth: the mean rate of the clients with the highest rates, at least of one. Personal: the
model after fine-tuning its {{ "heads" if config.personal == "heads" else "weights" }} on the
client's own speech, {{ config["personal-epochs"] }} passes. Better, worse: clients for which it
makes fewer errors than the global model, and more. Few words of held-out speech make a
client's own rate uncertain.</p>
{% endif %}
<h2>Nodes</h2>
<table>
<tr><th>node</th><th>capacity</th><th>rounds joined</th><th>of</th><th>minutes</th>
<th>audio minutes trained on</th><th>MB down</th><th>MB up</th><th>lost</th>
<th>last failure</th></tr>
{% for name, node in nodes.items() %}
<tr><td><bdi>{{ name }}</bdi></td><td class="words">{{ node.history() }}</td>
<td>{{ node.joined }}</td>
<td>{{ node.asked }}</td><td>{{ "%.1f" % (node.wall_seconds / 60) }}</td>
<td>{{ "%.1f" % (node.audio_seconds / 60) }}</td><td>{{ "%.1f" % (node.bytes_down / 1e6) }}</td>
<td>{{ "%.1f" % (node.bytes_up / 1e6) }}</td><td>{{ node.failures | length }}</td>
<td class="words">{% for round, reason in node.failures.items() %}{% if loop.last %}
round {{ round }}: {{ reason | truncate(160) }}{% endif %}{% endfor %}</td></tr>
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
{% if vocabulary %}
<p>Vocabulary: {{ vocabulary.characters | length }} characters{% if vocabulary.nodes %} of the texts
of {{ vocabulary.nodes }} nodes{% endif %},
<bdi>{{ vocabulary.characters | join(" ") | truncate(400, true, " ...", 0) }}</bdi>.
{% if vocabulary["left-out"] %}Left out: <bdi>{{ vocabulary["left-out"] | join(" ") }}</bdi>.
{% endif %}
Texts are normalised for {{ vocabulary.texts }}.</p>
{% endif %}
<table>
{% for name, value in training.facts.items() %}
<tr><td>{{ name }}</td><td class="words"><bdi>{{ value }}</bdi></td></tr>
{% endfor %}
</table>
<p>Keys of the run config that differ from their defaults:</p>
<table>
{% for key, value in changed.items() %}
<tr><td><code>{{ key }}</code></td><td class="words"><bdi>{{ value }}</bdi></td></tr>
{% endfor %}
</table>
</html>
"""

COMPARISON_PAGE = """\
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
<p>Mean over seeds ± sample standard deviation (n − 1); {% if data | length > 1 %}no best
values are marked, since the data differ{% else %}the best of each column is marked{% endif %};
{{ nothing }}: no model of that depth was trained{% if untested %}, or the server had no test
speech{% endif %}.</p>
{% else %}
<p>No central evaluation: the servers had no test speech.</p>
{% endif %}
{% if methods | selectattr("unfinished") | list %}
<p>* Runs are unfinished or missing: the rates are those of the last evaluation so far. The costs
leave out a seed that lacks a part which another seed has.</p>
{% endif %}
<h2>What it cost</h2>
<div class="wide"><table>
<tr><th>method</th><th>seeds</th><th>rounds</th><th>clients</th><th>client updates</th>
<th>speech trained on</th><th>client compute</th><th>bytes sent</th><th>lost</th></tr>
{% for method in methods %}
<tr>{{ name(method) }}<td>{{ method.seeds | join(", ") }}</td><td>{{ method.rounds }}</td>
<td>{{ method.clients }}</td><td>{{ method.client_updates }}</td><td>{{ method.trained_hours }}</td>
<td>{{ method.multiply_adds }}</td><td>{{ method.bytes }}</td><td>{{ method.failures }}</td></tr>
{% endfor %}
</table></div>
<p>Means over seeds, summed over all rounds. Client updates: usable replies. Speech trained on:
hours of audio, counted again in every local epoch. Bytes: sent down and up ({{ nothing }}: no round
had more than one client){% if cohort %}; with coverage = cohort these are cut models too, although
a federation that averages whole models (preset naive) would send those{% endif %}.
Client compute: multiply-adds of local training ({{ nothing }}: unknown). A training step counts as
three forward passes (Kaplan et al., arXiv 2001.08361, section 2.1) of the model that the client
trains, usually the one cut at its capacity, on utterances of {{ "%.0f" % utterance_seconds }} s;
frozen parts cost less than that. Lost: client rounds without a usable reply, in all runs.</p>
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
<td>{{ run.exit_layers | length if run.exit_layers else nothing }}</td>
<td class="words">{{ run.data }}</td><td>{{ run.failures }}</td></tr>
{% endfor %}
</table></div>
<pre>{% for run in method.runs %}{% for command in run.commands %}{{ command }}
{% else %}# {{ run.path }}: the command is not recorded
{% endfor %}{% endfor %}</pre></details>
{% endfor %}
</html>
"""


def template(source: str) -> Template:
    """Return a template that escapes its values: they hold names and reasons sent by nodes."""
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
