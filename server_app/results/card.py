"""What a run tells about its model: for the model card, and for the run's report."""

import re
from pathlib import Path

from efmodel.model import card
from efmodel.model.card import Training
from efmodel.speech.hub_sources import SOURCES
from server_app.results.run import Run, default_config
from server_app.results.versions import versions_text
from server_app.run_folder import RunFolder, read_object

# Run config keys that are paths of this machine, or that other facts tell.
_NOT_SHOWN = {"data-path", "output", "resume", "data", "model", "rounds", "strategy"}
_FOLDERS = re.compile(r"[^\s:,=]*/")  # what comes before a file's name


def write_card(run: Run) -> None:
    """Write the card of a run's model."""
    card.write(RunFolder.at(run.path).model, training_of(run))


def lacks_card(run: Run) -> bool:
    """Return whether the weights of a run's model have no card; False if there are none."""
    model = RunFolder.at(run.path).model
    return any(model.glob("*.safetensors")) and not card.describes(model / card.NAME, model)


def training_of(run: Run) -> Training:
    """Return what is known of the training of a run's model."""
    tested = run.result_evaluation
    source = SOURCES.get(run.config["data"])
    language = run.config["language"] or (source.language if source else "")
    return Training(
        facts=_facts(run),
        data=_data(run),
        dataset=source.repository if source else "",
        language=language.replace("_", "-").split("-")[0],
        base_model=_hub_name(run.config["model"]),
        tested_on=_tested_on(run),
        round=tested["round"] if tested else 0,
        wer=tested["wer"] if tested else (),
        cer=tested["cer"] if tested else (),
        adaptive=_adaptive(run),
    )


def _facts(run: Run) -> dict[str, str]:
    """Return how a run trained its model."""
    defaults = default_config()
    changed = {
        key: value
        for key, value in sorted(run.config.items())
        if key not in _NOT_SHOWN and value != defaults.get(key)
    }
    facts = {
        "data": _data(run),
        "started from": _public(run.config["model"]),
        "strategy": run.config["strategy"],
        "clients": str(run.clients),
        "rounds": f"{run.last_round} of {run.config['rounds']}",
        "client updates": str(run.client_updates),
        "speech trained on": _hours(run.trained_seconds),
        "other settings": ", ".join(f"{k}={_public(v)}" for k, v in changed.items()),
        "versions": "; then ".join(versions_text(each) for each in run.versions or [{}]),
    }
    if privacy := _privacy(run):
        # No noise is on these sums over clients, and a card goes where its model goes.
        facts |= {"client updates": "", "speech trained on": "", "differential privacy": privacy}
    return {name: value for name, value in facts.items() if value}


def _privacy(run: Run) -> str:
    """Return what a run with noise has spent; empty if it had none."""
    spent = run.rounds[-1].get("privacy", {}) if run.rounds else {}
    return "; ".join(
        f"{name}, epsilon {each['epsilon']:.3g} at delta {each['delta']:g}, noise multiplier "
        f"{each['noise-multiplier']:.4g}"
        for name, each in spent.items()
    )


def _data(run: Run) -> str:
    """Return the name of a run's corpus, without a path of this machine."""
    data = str(run.config["data"])
    return "recordings in a local folder" if data == "audiofolder" else data


def _tested_on(run: Run) -> str:
    part = "speakers of the training split" if run.config["tune-speakers"] else "the test split"
    return f"{part} of {_data(run)}"


def _hub_name(model: str) -> str:
    """Return a model's name if it is one of the Hub, "" if it is a preset or a folder."""
    return model if model.count("/") == 1 and not Path(model).expanduser().exists() else ""


def _public(value: object) -> str:
    """Return a value of the run config; of a path in it only the file's name."""
    text = str(value)
    return text if _hub_name(text) else _FOLDERS.sub("", text)


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 3600:.2f} h, counted again in each local epoch"


def _adaptive(run: Run) -> str:
    """Return a sentence on what adaptive exits gave on the test split; empty if unknown."""
    file = RunFolder.at(run.path).adaptive
    if not file.is_file():
        return ""
    score = read_object(file)
    return (
        f"With adaptive exits (--exit auto, {score['policy']}): {100 * score['wer']:.1f} % WER, "
        f"{score['layers']:.1f} layers on average, {100 * score['multiply-adds']:.0f} % of the "
        "deepest exit's multiply-adds."
    )
