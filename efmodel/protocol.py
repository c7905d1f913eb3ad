"""What a message says about the model, so that a device needs no model folder of its own."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord

if TYPE_CHECKING:  # a query is answered without torch and transformers, seconds of imports
    from transformers import PreTrainedTokenizerBase

    from efmodel.config import EarlyExitConfig

VERSION_KEY = "ef-asr"
CONFIG_KEY = "model-config"
TOKENIZER_KEY = "tokenizer"
CAPACITY_KEY = "capacity"  # in a query's answer, a train message, and a reply that changes it
CAPACITY_ERROR = "capacity: "  # in the words of a node that can train less than it was asked for


def describe(config: "EarlyExitConfig", tokenizer: "PreTrainedTokenizerBase") -> ConfigRecord:
    """Return the model's sizes, its tokenizer and our version: every message's config."""
    from efmodel.speech import vocabulary

    return ConfigRecord(
        {
            VERSION_KEY: installed_version(),
            CONFIG_KEY: config.to_json_string(),
            TOKENIZER_KEY: vocabulary.to_json(tokenizer),
        }
    )


def installed_version() -> str:
    """Return the version of ef-asr in this environment, or nothing: it may hold just what it needs.

    The app itself comes with each run; what it imports beside itself does not.
    """
    try:
        return version("ef-asr")
    except PackageNotFoundError:
        return ""


def blueprint(record: ConfigRecord) -> "tuple[EarlyExitConfig, PreTrainedTokenizerBase]":
    """Return the whole model's configuration and the tokenizer that a message describes."""
    from efmodel.config import EarlyExitConfig
    from efmodel.speech import vocabulary

    config = EarlyExitConfig.from_dict(json.loads(str(record[CONFIG_KEY])))
    return config, vocabulary.from_json(str(record[TOKENIZER_KEY]))
