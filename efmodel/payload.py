"""What a message says about the model, so that a device needs no model folder of its own."""

import json

from flwr.app import ConfigRecord
from transformers import PreTrainedTokenizerBase

from efmodel import text
from efmodel.config import EarlyExitConfig

CONFIG_KEY = "model-config"
TOKENIZER_KEY = "tokenizer"


def describe(config: EarlyExitConfig, tokenizer: PreTrainedTokenizerBase) -> ConfigRecord:
    """Return the model's sizes and tokenizer, as they go into each message's config."""
    return ConfigRecord(
        {
            CONFIG_KEY: config.to_json_string(),
            TOKENIZER_KEY: text.to_json(tokenizer),
        }
    )


def blueprint(record: ConfigRecord) -> tuple[EarlyExitConfig, PreTrainedTokenizerBase]:
    """Return the whole model's configuration and the tokenizer that a message describes."""
    config = EarlyExitConfig.from_dict(json.loads(str(record[CONFIG_KEY])))
    return config, text.from_json(str(record[TOKENIZER_KEY]))
