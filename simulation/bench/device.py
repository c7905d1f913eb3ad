"""What a device must have: the peak memory of a client's process, whole, as it measures itself."""

from rich.progress import track

from client_app.capacity.measuring import Budget, measure_exit
from efmodel.config import preset
from efmodel.settings import Settings
from efmodel.speech import vocabulary
from simulation.bench.figure import Figure

# Preset, exit, and what is frozen: what one would put on the smallest devices.
CLIENTS = (
    ("tiny", 1, ""),
    ("tiny", 3, ""),
    ("wav2vec2-base", 1, "frontend"),
)
LONGEST = (5.0, 30.0)  # max-seconds


def run() -> list[Figure]:
    """Measure each client with each longest recording."""
    cases = [(*client, seconds) for client in CLIENTS for seconds in LONGEST]
    figures: list[Figure] = []
    for name, exit, freeze, seconds in track(cases, "device", transient=True):
        spelled = vocabulary.of_preset(name)
        config = preset(name, vocab_size=len(spelled), pad_token_id=spelled.pad_token_id)
        settings = Settings(max_seconds=seconds, batch_seconds=seconds, freeze=freeze)
        cost = measure_exit(config.to_json_string(), settings, exit, Budget(1e6))
        least = figures[0].measured if figures else cost.peak_mb
        what = f"{name}, exit {exit}, freeze={freeze or 'nothing'}, {seconds:g} s: peak memory"
        figures.append(Figure(what, cost.peak_mb, least, "MB", "the first line"))
    return figures
