"""What a saved model's folder holds for transformers, beside weights and configuration.

Auto classes and pipelines find the model's classes through ``auto_map`` in its ``config.json``,
which names a module in the folder. That module imports the installed efmodel: a folder holds no
copy of the code, which would grow old.
"""

import json
import shutil
from pathlib import Path

from transformers import Wav2Vec2FeatureExtractor
from transformers.utils import PROCESSOR_NAME

from efmodel.config import SAMPLE_RATE

_MODULE = "modeling_early_exit"
AUTO_MAP = {
    "AutoConfig": f"{_MODULE}.EarlyExitConfig",
    "AutoModelForCTC": f"{_MODULE}.EarlyExitForCTC",
}
_MODELLING = '''\
"""An early-exit model of EF-ASR; `pip install ef-asr` brings its classes."""

try:
    from efmodel import EarlyExitConfig, EarlyExitForCTC
except ImportError as error:
    raise ImportError("found no efmodel, which this model needs: pip install ef-asr") from error

__all__ = ["EarlyExitConfig", "EarlyExitForCTC"]
'''


def complete(folder: Path) -> None:
    """Write the module that ``AUTO_MAP`` names, and the processor's configuration.

    ``AutoProcessor`` and the pipeline for speech recognition want these and the tokenizer.
    Whoever may read the module may read the weights, which safetensors 0.8 writes for the owner
    alone, whatever the umask.
    """
    module = folder / f"{_MODULE}.py"
    module.write_text(_MODELLING, encoding="utf-8")
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(module, weights)
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE,
        do_normalize=False,  # the model's front end does it
        return_attention_mask=True,
    )
    fields = {
        "processor_class": "Wav2Vec2Processor",
        "feature_extractor": extractor.to_dict(),
    }
    text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
    (folder / PROCESSOR_NAME).write_text(text, encoding="utf-8")
