"""The model that round 1 starts from."""

from efmodel import text
from efmodel.settings import Settings
from server_app.server import starting_model


def test_a_preset_starts_with_its_own_tokenizer():
    model, tokenizer = starting_model(Settings(model="paper", exit_loss="sum"))
    assert text.to_json(tokenizer) == text.to_json(text.of_preset("paper"))
    assert model.config.vocab_size == len(tokenizer) == 256
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    assert model.config.exit_loss == "sum"
    model, tokenizer = starting_model(Settings())
    assert model.config.vocab_size == len(tokenizer) == len(text.CHARACTERS)
