"""The model that round 1 starts from."""

from efmodel.model.loading import starting_model
from efmodel.settings import Settings
from efmodel.speech import vocabulary


def test_a_preset_starts_with_its_own_tokenizer():
    model, tokenizer = starting_model(Settings(model="paper", exit_loss="sum"))
    assert vocabulary.to_json(tokenizer) == vocabulary.to_json(vocabulary.of_preset("paper"))
    assert model.config.vocab_size == len(tokenizer) == 256
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    assert model.config.exit_loss == "sum"
    model, tokenizer = starting_model(Settings())
    assert model.config.vocab_size == len(tokenizer) == len(vocabulary.CHARACTERS)
