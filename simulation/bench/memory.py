"""The memory that a device needs: the peak of a client's whole process, as the client measures it.

The reference is the first row: the smallest client with the shortest recordings.
"""

from rich.progress import track

from client_app.capacity.measuring import Budget, measure_exit
from efmodel.config import preset
from efmodel.settings import Settings
from efmodel.speech import vocabulary
from simulation.bench.figure import Figure

# Preset, exit and frozen part of clients for the smallest devices.
CLIENTS = (
    ("tiny", 1, ""),
    ("tiny", 3, ""),
    ("wav2vec2-base", 1, "frontend"),
)
MAX_SECONDS = (5.0, 30.0)  # the longest recording


def run() -> list[Figure]:
    """Measure each client with each length of the longest recording."""
    cases = [(*client, seconds) for client in CLIENTS for seconds in MAX_SECONDS]
    figures: list[Figure] = []
    for name, exit, freeze, seconds in track(cases, "memory", transient=True):
        tokenizer = vocabulary.of_preset(name)
        config = preset(name, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        settings = Settings(max_seconds=seconds, batch_seconds=seconds, freeze=freeze)
        cost = measure_exit(config.to_json_string(), settings, exit, Budget(1e6))
        reference = figures[0].measured if figures else cost.peak_mb
        what = f"{name}, exit {exit}, freeze={freeze or 'nothing'}, {seconds:g} s: peak memory"
        figures.append(Figure(what, cost.peak_mb, reference, "MB", "the first line"))
    return figures
