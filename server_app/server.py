"""The ServerApp: read the run config, wire the parts, start the rounds."""

from logging import INFO, WARNING
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

from efmodel import corpus, text
from efmodel.config import PRESETS, preset
from efmodel.evaluation import ExitScore, score
from efmodel.model import EarlyExitForCTC
from efmodel.payload import describe
from efmodel.settings import Settings, SettingsError
from efmodel.utterances import Utterance, prepare
from server_app.plot import plot_error_rates
from server_app.rounds import Rounds
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy import by_name

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation from the first model to the last."""
    settings = Settings.from_run_config(context.run_config)
    torch.manual_seed(settings.seed)
    model, tokenizer = starting_model(settings)
    held_out = test_utterances(settings, model, tokenizer)
    strategy = by_name(settings, model.owner_exits())
    folder = RunFolder(settings.output)
    log(INFO, "run folder: %s", folder.path)
    folder.write_config(context.run_config)

    def evaluate(arrays: ArrayRecord) -> list[ExitScore]:
        model.load_state_dict(arrays.to_torch_state_dict())
        return score(model, held_out, tokenizer, settings.batch_seconds)

    strategy.summary()
    rounds = Rounds(
        grid=grid,
        strategy=strategy,
        settings=settings,
        folder=folder,
        evaluate=evaluate,
        request=describe(model.config, tokenizer),
        num_exits=model.config.num_exits,
    )
    arrays = rounds.run(ArrayRecord(model.state_dict()))

    model.load_state_dict(arrays.to_torch_state_dict())
    model.save_pretrained(folder.model)
    tokenizer.save_pretrained(folder.model)
    title = f"{settings.model}, {settings.strategy}, {settings.data} {settings.data_path}".strip()
    plot_error_rates(read_metrics(folder.metrics), folder.path / "wer.png", title)
    log(INFO, "run folder: %s", folder.path)


def starting_model(settings: Settings) -> tuple[EarlyExitForCTC, Wav2Vec2CTCTokenizer]:
    """Return the model that round 1 starts from, a preset's or a folder's, and its tokenizer."""
    if settings.model in PRESETS:
        tokenizer = text.tokenizer_from(text.CHARACTERS)
        config = preset(
            settings.model,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            exit_loss=settings.exit_loss,
        )
        return EarlyExitForCTC(config), tokenizer
    path = Path(settings.model).expanduser()
    if not (path / "config.json").is_file():
        wanted = f"one of {', '.join(PRESETS)} or a model's folder"
        raise SettingsError(f"model: found {settings.model!r}, wanted {wanted}")
    model = EarlyExitForCTC.from_pretrained(path)
    model.config.exit_loss = settings.exit_loss
    return model, AutoTokenizer.from_pretrained(path)


def test_utterances(
    settings: Settings, model: EarlyExitForCTC, tokenizer: Wav2Vec2CTCTokenizer
) -> list[Utterance]:
    """Return what the server tests on: the corpus's test half, if there is one."""
    if settings.data == "audiofolder" and not settings.data_path:
        log(WARNING, "data-path is empty: no central evaluation, clients test on their own speech")
        return []
    test = corpus.load(settings.data, settings.data_path).test
    if test is None:
        log(WARNING, "the data has no test half: no central evaluation")
        return []
    utterances, skipped = prepare(test, tokenizer, model.config, to_train=False)
    skipped.log("test")
    log(INFO, "central evaluation on %d utterances", len(utterances))
    return utterances
