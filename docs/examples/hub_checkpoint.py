"""Make a model folder of a pretrained checkpoint, for a federation to start from.

python docs/examples/hub_checkpoint.py facebook/wav2vec2-base start --exit-layers 4,8,12
ef-asr simulate --data my-recordings --set model=start --set lr=0.0001 --set freeze=frontend

The checkpoint is a name on the Hugging Face Hub, which is downloaded, or a local folder.
``--set model=facebook/wav2vec2-base`` does the same inside a run.
"""

import argparse

from efmodel import EarlyExitForCTC
from efmodel.model import backbone


def main(arguments: list[str] | None = None) -> None:
    """Write the model and its tokenizer, and print how large it is at each exit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", help="a wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint")
    parser.add_argument("output", help="the folder to write")
    parser.add_argument("--exit-layers", default="4,8,12", help="layers that get an exit")
    options = parser.parse_args(arguments)

    exit_layers = [int(layer) for layer in options.exit_layers.split(",")]
    model = EarlyExitForCTC.from_backbone(options.checkpoint, exit_layers=exit_layers)
    model.save_pretrained(options.output)
    backbone.tokenizer(options.checkpoint, model.config).save_pretrained(options.output)
    for exit in range(1, model.config.num_exits + 1):
        small = model.cut(exit)  # what a device of this capacity holds
        millions = sum(tensor.numel() for tensor in small.parameters()) / 1e6
        print(f"exit {exit}: {small.config.num_hidden_layers} layers, {millions:.1f} M parameters")


if __name__ == "__main__":
    main()
