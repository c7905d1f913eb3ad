"""The model card: the README.md of a saved model's folder, which the Hugging Face Hub shows.

It says what is known and no more: configuration and weights tell a model's exits, a run tells how
it was trained and what errors it makes. Nothing here loads torch; the Hub's library is imported
when a card is written.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efmodel.model.cutting import owner_exit

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

NAME = "README.md"
TASK = "automatic-speech-recognition"
LICENCE = "unknown"  # the Hub's word; only the owner of the weights can choose another

_BODY = """\

# Early-exit speech recogniser

A speech recogniser with {{ config.exit_layers | length }} exits over \
{{ config.num_hidden_layers }} {{ config.layer_type }} layers. It reads \
{{ "the waveform" if config.frontend == "waveform" else "mel bands" }} at 16 kHz. \
Each exit is a CTC head that answers by itself, and the model can be cut at any of them \
(Ali, Brutti, Falavigna, [arXiv 2405.17376](https://arxiv.org/abs/2405.17376)).

## Exits

{{ table }}

{% if training.wer %}
Error rates on {{ training.tested_on }}, after round {{ training.round }}. {{ training.adaptive }}
{% else %}
Error rates of these weights are not recorded here.
{% endif %}

## Use

After `pip install ef-asr`; `MODEL` is a folder, or the name of this repository:

```python
from efmodel import Recogniser

recogniser = Recogniser.from_pretrained("MODEL", exit=1)  # a strong device goes deeper
print(recogniser.transcribe("hello.wav").text)
```

The deepest exit with transformers:

```python
from transformers import pipeline

recognise = pipeline("automatic-speech-recognition", model="MODEL", trust_remote_code=True)
print(recognise("hello.wav")["text"])
```

## Intended use

To write down speech on devices of unequal strength: each runs the layers that it can afford.
{% if training.language %}
The language is `{{ training.language }}`.
{% endif %}
{% if training.wer %}
Nothing was measured on speech that differs from the test speech: other voices, noise, languages.
{% endif %}

## Training

{% for name, value in training.facts.items() %}
- {{ name }}: {{ value }}
{% else %}
How these weights were trained is not recorded here.
{% endfor %}

This card describes the weights with SHA-256 `{{ weights }}`.

## Licence

The owner of the weights chooses their licence and writes it in the first lines of this file.
"""


@dataclass(frozen=True)
class Training:
    """What a run knows of the model that it trained. What is empty is unknown.

    Attributes
    ----------
    facts : Mapping
        How it was trained: ``{name: value}`` in the order to show.
    data, dataset : str
        The corpus, and its name on the Hub if it is there.
    language : str
        Code of the language, such as "de".
    base_model : str
        Name on the Hub of the checkpoint from which training started.
    tested_on : str
        What the error rates were measured on.
    round : int
        The round after which they were measured.
    wer, cer : Sequence of float
        Error rates per exit, shallow to deep.
    adaptive : str
        A sentence on what adaptive exits give.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    dataset: str = ""
    language: str = ""
    base_model: str = ""
    tested_on: str = ""
    round: int = 0
    wer: Sequence[float] = ()
    cer: Sequence[float] = ()
    adaptive: str = ""


UNKNOWN = Training()


def write(folder: Path, training: Training = UNKNOWN) -> None:
    """Write the card of the model in ``folder``."""
    from huggingface_hub import ModelCard
    from jinja2 import Environment

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    body = environment.from_string(_BODY).render(
        config=config,
        table=_table(config["exit_layers"], parameters(folder, config["exit_layers"]), training),
        training=training,
        weights=fingerprint(folder),
    )
    ModelCard(f"---\n{_header(training).to_yaml()}\n---\n{body}").save(folder / NAME)


def keep_or_write(folder: Path, origin: Path) -> None:
    """Give the model in ``folder`` the card of ``origin`` if that has these weights, or a new one.

    A card tells how weights were trained and what errors they make: it stays with these weights.
    ``origin`` is where the model was loaded from, which may be ``folder``, or no folder at all.
    """
    if not describes(origin / NAME, folder):
        write(folder)
    elif not (folder / NAME).exists() or not (folder / NAME).samefile(origin / NAME):
        shutil.copyfile(origin / NAME, folder / NAME)


def describes(card: Path, folder: Path) -> bool:
    """Return whether a file is the card of the weights in ``folder``."""
    return card.is_file() and fingerprint(folder) in card.read_text(encoding="utf-8")


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the weights in ``folder``; of their index if they are several files."""
    whole = folder / "model.safetensors"
    with (whole if whole.is_file() else folder / "model.safetensors.index.json").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parameters(folder: Path, exit_layers: Sequence[int]) -> list[int]:
    """Return how many parameters the model in ``folder`` has when it is cut at each exit."""
    from safetensors import safe_open

    owned = [0] * (len(exit_layers) + 1)
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118  # no dictionary
                owned[owner_exit(name, exit_layers)] += prod(file.get_slice(name).get_shape())
    return list(accumulate(owned))[1:]


def _table(exit_layers: Sequence[int], sizes: Sequence[int], training: Training) -> str:
    """Return the table of exits in Markdown."""
    columns: dict[str, Sequence[Any]] = {
        "exit": range(1, len(exit_layers) + 1),
        "after layer": exit_layers,
        "parameters": [f"{size / 1e6:.2f} M" for size in sizes],
    }
    for title, rates in {"WER %": training.wer, "CER %": training.cer}.items():
        if rates:
            columns[title] = [f"{100 * rate:.1f}" for rate in rates]
    rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _header(training: Training) -> "ModelCardData":
    """Return what the Hub searches: language, licence, data, error rates."""
    from huggingface_hub import EvalResult, ModelCardData

    rates = {"wer": training.wer, "cer": training.cer}
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=training.dataset or training.data,
            dataset_name=training.tested_on,
            metric_type=kind,
            metric_name=f"{kind.upper()} % at exit {exit}",
            metric_value=round(100 * rate, 2),
        )
        for kind, values in rates.items()
        for exit, rate in enumerate(values, start=1)
    ]
    return ModelCardData(
        language=training.language or None,
        license=LICENCE,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["early-exit", "ctc", "ef-asr"],
        datasets=training.dataset or None,
        base_model=training.base_model or None,
        metrics=[kind for kind, values in rates.items() if values] or None,
        model_name="early-exit-ctc",
        eval_results=results or None,
    )
