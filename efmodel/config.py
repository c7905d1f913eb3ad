"""Configuration of an early-exit model, and presets of its sizes."""

from math import prod
from typing import Any, Literal

from transformers import Wav2Vec2Config

from efmodel.errors import UserError
from efmodel.speech.resampling import SAMPLE_RATE as SAMPLE_RATE  # needed without transformers

HOP = 160  # samples between mel frames: 10 ms, so 100 mel frames a second
IGNORED = -100  # padding of a batch's labels, as everywhere in transformers


class EarlyExitConfig(Wav2Vec2Config):  # type: ignore[misc]
    """Configuration of :class:`efmodel.EarlyExitForCTC`.

    It has every field of wav2vec2's configuration (``hidden_size``, ``num_attention_heads``,
    dropouts, ``conv_dim`` ...), and the following.

    Attributes
    ----------
    frontend : {"mel", "waveform"}
        Log-mel bands and 4x convolutional subsampling (40 ms a frame), or wav2vec2's
        convolutional feature encoder on the waveform (20 ms a frame).
    layer_type : {"transformer", "wavlm", "conformer"}
        Kind of encoder layers: wav2vec2's, WavLM's with gated relative positions, or the
        conformer's of :mod:`efmodel.model.conformer`.
    conv_depthwise_kernel_size : int
        Kernel size of a conformer layer's convolution, in frames; an odd number.
    exit_layers : list of int
        Exit ``e`` follows encoder layer ``exit_layers[e - 1]``; layers count from 1. Ascending;
        the last entry is ``num_hidden_layers``, so the deepest exit uses all layers.
    exit_loss : {"mean", "sum", "last", "linear", "inverse", "deepening"}
        How the exits' CTC losses are combined; see :mod:`efmodel.exit_weights`.
    num_mel_bins : int
        Number of mel bands of the mel front end.
    mel_normalisation : {"speech", "utterance"}
        What the mel bands are relative to: the level of the speech, which pauses do not change,
        or each band's mean and deviation over the utterance (models saved without this field).
    mask_mel_bins, mask_mel_frames : int
        Largest width of the SpecAugment masks in training, in bands and in frames of 10 ms;
        0 turns them off.
    do_normalize : bool
        Whether the waveform front end normalises each utterance to zero mean and unit variance.
    feat_proj_layer_norm : bool
        Whether the projection after the front end starts with a layer norm; some HuBERT
        checkpoints have none.
    conv_pos_kernel_size : int
        0 for wav2vec2's positional embedding, a single convolution; otherwise the kernel size of
        Data2VecAudio's, a stack of ``num_conv_pos_embeddings`` convolutions.
    num_buckets, max_bucket_distance : int
        Size of WavLM's table of relative positions, and the distance in frames where it ends.
    lora_rank : int
        Rank of the LoRA adapters in the encoder layers; 0 for none.
    exit_thresholds : dict, optional
        What ``ef-asr calibrate`` found: the thresholds of each exit but the deepest, by score; see
        :mod:`efmodel.decoding.policy`.
    exit_policy : str
        The scores that decide where to stop, joined by ``+``, unless another policy is asked for.
    """

    model_type = "early-exit-ctc"

    frontend: Literal["mel", "waveform"] = "mel"
    layer_type: Literal["transformer", "wavlm", "conformer"] = "transformer"
    conv_depthwise_kernel_size: int = 31
    exit_layers: list[int] | tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    exit_loss: str = "mean"
    num_mel_bins: int = 80
    mel_normalisation: Literal["speech", "utterance"] = "speech"
    mask_mel_bins: int = 0
    mask_mel_frames: int = 0
    do_normalize: bool = True
    feat_proj_layer_norm: bool = True
    conv_pos_kernel_size: int = 0
    num_buckets: int = 320
    max_bucket_distance: int = 800
    lora_rank: int = 0
    exit_thresholds: dict[str, list[float]] | None = None
    exit_policy: str = "confidence"

    # wav2vec2's masks after the front end are off unless a pretrained checkpoint turns them on.
    mask_time_prob: float | int = 0.0
    # If whole layers were dropped at random, some exits would get no gradient in a step.
    layerdrop: float | int = 0.0
    do_stable_layer_norm: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.frontend == "mel":  # the paper's 4x subsampling: two convolutions of stride 2
            self.conv_dim = [self.hidden_size, self.hidden_size]
            self.conv_kernel, self.conv_stride = [3, 3], [2, 2]
        super().__post_init__(**kwargs)
        if self.exit_loss == "weighted":  # the name of "linear" in models saved by version 0.1.0
            self.exit_loss = "linear"
        self.exit_layers = [int(layer) for layer in self.exit_layers]
        self._check_exits()
        if self.conv_depthwise_kernel_size % 2 == 0:
            raise UserError(
                f"conv_depthwise_kernel_size: found {self.conv_depthwise_kernel_size}, "
                "wanted an odd number"
            )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a saved configuration; without ``mel_normalisation`` it is "utterance"."""
        return super().from_dict({"mel_normalisation": "utterance", **config_dict}, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: the Auto classes know the model, and a folder gets no copy of this file."""

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the fields to save: ``mel_normalisation`` even where it has its default."""
        return {**super().to_diff_dict(), "mel_normalisation": self.mel_normalisation}

    def _check_exits(self) -> None:
        layers = list(self.exit_layers)
        if not layers or layers != sorted(set(layers)) or layers[0] < 1:
            raise UserError(
                f"exit_layers: found {layers}, wanted ascending layer numbers from 1 upwards"
            )
        if layers[-1] != self.num_hidden_layers:
            raise UserError(
                f"exit_layers: found the deepest exit after layer {layers[-1]}, wanted it after "
                f"the last layer (num_hidden_layers = {self.num_hidden_layers})"
            )

    @property
    def has_pre_norm(self) -> bool:
        """Whether the layers normalise their input, not their output: each exit then has a norm."""
        return self.layer_type != "conformer" and self.do_stable_layer_norm

    @property
    def num_exits(self) -> int:
        """E, the number of exits."""
        return len(self.exit_layers)

    @property
    def samples_per_frame(self) -> int:
        """Samples at 16 kHz from the start of one encoder frame to that of the next."""
        return prod(self.conv_stride) * (HOP if self.frontend == "mel" else 1)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """``samples_per_frame`` under the name that pipelines of transformers read."""
        return self.samples_per_frame

    def num_frames(self, num_samples: int) -> int:
        """Return the number of encoder frames of a waveform of ``num_samples`` at 16 kHz."""
        frames = num_samples // HOP + 1 if self.frontend == "mel" else num_samples
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            padding = 2 * (kernel // 2) if self.frontend == "mel" else 0
            frames = max(0, (frames + padding - kernel) // stride + 1)
        return frames

    def cut(self, exit: int) -> "EarlyExitConfig":
        """Return the configuration of the model cut at ``exit`` (from 1).

        Raises
        ------
        UserError
            If the model has no such exit.
        """
        if not 1 <= exit <= self.num_exits:
            raise UserError(f"exit: found {exit}, wanted 1 to {self.num_exits}")
        thresholds = self.exit_thresholds
        if thresholds is not None:
            thresholds = {name: values[: exit - 1] for name, values in thresholds.items()}
        return self.changed(
            exit_layers=list(self.exit_layers[:exit]),
            num_hidden_layers=self.exit_layers[exit - 1],
            exit_thresholds=thresholds,
        )

    def changed(self, **fields: Any) -> "EarlyExitConfig":
        """Return a copy in which ``fields`` have other values."""
        # A model's choice of attention kernel is no field, and not saved with the others.
        attention = self._attn_implementation
        copy: EarlyExitConfig = EarlyExitConfig.from_dict(
            {**self.to_dict(), **fields}, attn_implementation=attention
        )
        return copy


PRESETS: dict[str, dict[str, Any]] = {
    # About 1.8 M parameters: trains on the sample within minutes on two CPU cores.
    "tiny": {
        "frontend": "mel",
        "hidden_size": 144,
        "num_attention_heads": 4,
        "intermediate_size": 576,
        "num_hidden_layers": 6,
        "exit_layers": [2, 4, 6],
        "mask_mel_bins": 20,
        "mask_mel_frames": 5,
    },
    # About 5.9 M parameters, with the paper's depth and exits: for a few CPU cores.
    "small": {
        "frontend": "mel",
        "hidden_size": 192,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "num_hidden_layers": 12,
        "exit_layers": [2, 4, 6, 8, 10, 12],
        "mask_mel_bins": 20,
        "mask_mel_frames": 5,
    },
    # The model of the paper (arXiv 2405.17376): 31.6 M parameters.
    "paper": {
        "frontend": "mel",
        "layer_type": "conformer",
        "hidden_size": 256,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "conv_depthwise_kernel_size": 31,
        "num_hidden_layers": 12,
        "exit_layers": [2, 4, 6, 8, 10, 12],
        "vocab_size": 256,
        "mask_mel_bins": 27,
        "mask_mel_frames": 40,
    },
    # The sizes of facebook/wav2vec2-base (95 M parameters) and -large (317 M) with random weights;
    # `model = facebook/wav2vec2-base` starts from the pretrained weights.
    "wav2vec2-base": {
        "frontend": "waveform",
        "do_stable_layer_norm": False,
        "exit_layers": [2, 4, 6, 8, 10, 12],
    },
    "wav2vec2-large": {
        "frontend": "waveform",
        "do_stable_layer_norm": False,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "exit_layers": [4, 8, 12, 16, 20, 24],
    },
}


def preset(name: str, **changes: Any) -> EarlyExitConfig:
    """Return the configuration of the model preset ``name``, with ``changes`` to its fields.

    Raises
    ------
    UserError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise UserError(f"model: found {name!r}, wanted one of {sorted(PRESETS)} or a folder")
    return EarlyExitConfig(**{**PRESETS[name], **changes})
