"""Fine-tune a saved model with transformers' Trainer, on one machine and all of its exits.

python docs/examples/fine_tune.py my-run tuned --data my-recordings --steps 500
"""

import argparse
from pathlib import Path

from transformers import Trainer, TrainingArguments

from efmodel.model.loading import load
from efmodel.speech import corpus
from efmodel.speech.batches import collate
from efmodel.speech.utterances import prepare


def main(arguments: list[str] | None = None) -> None:
    """Train, and write the model, its tokenizer and its card."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="a run folder, or the folder of a saved model")
    parser.add_argument("output", type=Path, help="the folder to write")
    parser.add_argument("--data", default="sample", help="a folder of recordings, or a corpus")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args(arguments)

    model, tokenizer = load(options.model)
    recordings = corpus.load(*corpus.named(options.data)).train
    utterances, skipped = prepare(recordings, tokenizer, model.config, to_train=True)
    skipped.log(options.data)
    training = TrainingArguments(
        output_dir=str(options.output / "checkpoints"),
        max_steps=options.steps,
        per_device_train_batch_size=6,
        learning_rate=1e-4,
        report_to="none",
    )
    trainer = Trainer(model, training, data_collator=collate, train_dataset=utterances)
    trainer.train()
    trainer.save_model(str(options.output))
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
