"""What a message says about the model, so that a device needs no model folder of its own."""

import json

from flwr.app import ConfigRecord
from transformers import Wav2Vec2CTCTokenizer

from efmodel.config import EarlyExitConfig
from efmodel.text import tokenizer_from

CONFIG_KEY = "model-config"
VOCABULARY_KEY = "vocabulary"


def describe(config: EarlyExitConfig, tokenizer: Wav2Vec2CTCTokenizer) -> ConfigRecord:
    """Return the model's sizes and vocabulary, as they go into each message's config."""
    return ConfigRecord(
        {
            CONFIG_KEY: config.to_json_string(),
            VOCABULARY_KEY: json.dumps(tokenizer.get_vocab()),
        }
    )


def blueprint(record: ConfigRecord) -> tuple[EarlyExitConfig, Wav2Vec2CTCTokenizer]:
    """Return the whole model's configuration and the tokenizer that a message describes."""
    config = EarlyExitConfig.from_dict(json.loads(str(record[CONFIG_KEY])))
    return config, tokenizer_from(json.loads(str(record[VOCABULARY_KEY])))
