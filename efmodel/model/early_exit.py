"""The early-exit model: front end, a stack of encoder layers, a CTC head per exit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioPositionalConvEmbedding,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2EncoderLayer,
    Wav2Vec2EncoderLayerStableLayerNorm,
    Wav2Vec2FeatureProjection,
    Wav2Vec2PositionalConvEmbedding,
    Wav2Vec2PreTrainedModel,
)
from transformers.models.wavlm.modeling_wavlm import (
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
)
from transformers.utils import ModelOutput

from efmodel.config import EarlyExitConfig
from efmodel.model import backbone, cutting, loss
from efmodel.model.conformer import ConformerLayer, SinusoidalPosition
from efmodel.model.dropout import draw_quickly
from efmodel.model.frames import frame_mask
from efmodel.model.frozen import FRONTEND, FrozenOutput
from efmodel.model.lora import add_adapters
from efmodel.model.masking import mask_features
from efmodel.model.mel import MelFeatureExtractor
from efmodel.model.waveform import WaveformFeatureExtractor


@dataclass
class EarlyExitOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives; E is the number of exits, lists run from shallow to deep.

    Attributes
    ----------
    logits : list of Tensor
        E tensors ``[batch, frames, vocab]``, float32.
    lengths : Tensor
        ``[batch]``, each utterance's own frames in ``logits``.
    losses : Tensor, optional
        ``[E]``, the CTC loss per exit, when labels were given.
    loss : Tensor, optional
        The scalar that ``config.exit_loss`` makes of ``losses``.
    hidden_states : list of Tensor, optional
        E tensors ``[batch, frames, hidden]``: what each head sees before its own norm.
    """

    loss: Tensor | None = None
    logits: list[Tensor] | None = None
    lengths: Tensor | None = None
    losses: Tensor | None = None
    hidden_states: list[Tensor] | None = None


class ExitHead(nn.Module):
    """One exit: norm, dropout, and a linear layer to the vocabulary.

    Conformer layers and wav2vec2's post-norm layers (``do_stable_layer_norm=False``) end in a norm
    of their own, and the head adds none.
    """

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        if config.has_pre_norm:
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.final_dropout)
        self.projection = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits ``[batch, frames, vocab]`` for ``hidden`` ``[batch, frames, hidden]``."""
        logits: Tensor = self.projection(self.dropout(self.norm(hidden)))
        return logits.float()


class StackedPositionalConv(Data2VecAudioPositionalConvEmbedding):  # type: ignore[misc]
    """Data2VecAudio's convolutions for position, each of which sees zeros behind an utterance."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return positions ``[batch, frames, hidden]``; ``mask`` is ``[batch, frames]``."""
        mask = mask[:, None, :]
        hidden = hidden.transpose(1, 2)  # (B, T, C) -> (B, C, T)
        for layer in self.layers:
            hidden = layer(hidden * mask)
        return hidden.transpose(1, 2)


class EarlyExitEncoder(nn.Module):
    """Position and encoder layers, by wav2vec2's names; hands out the hidden state at each exit."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_conv_embed = position_embedding(config)
        # The final norm of a pre-norm stack is each exit's own; a post-norm stack starts with one.
        self.layer_norm: nn.Module = nn.Identity()
        if not (config.has_pre_norm or config.layer_type == "conformer"):
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        numbers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(encoder_layer(config, number) for number in numbers)

    def forward(self, hidden: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return E hidden states ``[batch, frames, hidden]``, shallow to deep.

        ``hidden`` is ``[batch, frames, hidden]`` and ``lengths`` each utterance's frames.
        """
        at_exits, _ = self.through(self.positioned(hidden, lengths), lengths)
        return at_exits

    def positioned(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return what the first layer sees, ``[batch, frames, hidden]``."""
        mask = frame_mask(lengths, hidden.shape[1])
        hidden = hidden * mask[:, :, None]
        seen = (hidden, mask) if self.config.conv_pos_kernel_size else (hidden,)
        positioned: Tensor = self.dropout(self.layer_norm(hidden + self.pos_conv_embed(*seen)))
        return positioned

    def through(
        self, hidden: Tensor, lengths: Tensor, after: int = 0, last: int | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the hidden states at exits, and the last one, of the layers behind ``after``.

        ``hidden`` is what layer ``after`` gave, ``[batch, frames, hidden]``.
        """
        masks = self._masks(hidden, frame_mask(lengths, hidden.shape[1]))
        at_exits = []
        for number, layer in enumerate(self.layers[after:last], start=after + 1):
            hidden = layer(hidden, **masks)
            if self.config.layer_type == "wavlm":
                hidden, _ = hidden
            if number in self.config.exit_layers:
                at_exits.append(hidden)
        return at_exits, hidden

    def _masks(self, hidden: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return what the layers want beside the hidden states; ``mask`` is ``[batch, frames]``."""
        if self.config.layer_type == "wavlm":
            batch, frames = mask.shape
            attention: Any = self.layers[0].attention
            bias = attention.compute_bias(frames, frames)  # [heads, frames, frames]
            return {"attention_mask": mask, "position_bias": bias.repeat(batch, 1, 1)}
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=mask
        )
        if self.config.layer_type == "conformer":
            return {"attention_mask": attention_mask, "frame_mask": mask[:, :, None]}
        return {"attention_mask": attention_mask}


def position_embedding(config: EarlyExitConfig) -> nn.Module:
    """Return what tells the layers where a frame stands."""
    if config.layer_type == "conformer":
        return SinusoidalPosition()
    if config.conv_pos_kernel_size:
        return StackedPositionalConv(config)
    convolution: nn.Module = Wav2Vec2PositionalConvEmbedding(config)
    return convolution


def encoder_layer(config: EarlyExitConfig, number: int) -> nn.Module:
    """Return encoder layer ``number``, from 0, of the configured kind."""
    layer: nn.Module
    if config.layer_type == "conformer":
        layer = ConformerLayer(config)
    elif config.layer_type == "wavlm":
        kind = WavLMEncoderLayerStableLayerNorm if config.has_pre_norm else WavLMEncoderLayer
        layer = kind(config, has_relative_position_bias=number == 0)
    elif config.has_pre_norm:
        layer = Wav2Vec2EncoderLayerStableLayerNorm(config)
    else:
        layer = Wav2Vec2EncoderLayer(config)
    return layer


class EarlyExitForCTC(Wav2Vec2PreTrainedModel):  # type: ignore[misc]
    """A speech recogniser that can be cut at any of its exits."""

    config: EarlyExitConfig
    config_class = EarlyExitConfig
    base_model_prefix = ""
    _can_record_outputs: dict[str, object] = {}  # hidden states at the exits are our own affair

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__(config)
        extractor: Any = {"mel": MelFeatureExtractor, "waveform": WaveformFeatureExtractor}
        self.feature_extractor = extractor[config.frontend](config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        if not config.feat_proj_layer_norm:
            self.feature_projection.layer_norm = nn.Identity()
        self.masked_spec_embed: nn.Parameter | None = None  # wav2vec2's name
        if config.mask_time_prob:
            self.masked_spec_embed = nn.Parameter(torch.rand(config.hidden_size))
        self.encoder = EarlyExitEncoder(config)
        self.exits = nn.ModuleDict({str(e + 1): ExitHead(config) for e in range(config.num_exits)})
        self.post_init()
        add_adapters(self)
        draw_quickly(self)

    @classmethod
    def from_backbone(
        cls,
        name: str,
        exit_layers: Sequence[int] | None = None,
        vocab_size: int | None = None,
        **changes: Any,
    ) -> "EarlyExitForCTC":
        """Return a pretrained encoder with an exit after each of ``exit_layers``.

        Layers behind the deepest exit are left out. A CTC head in the checkpoint, if it has
        ``vocab_size`` entries, starts every exit.

        Parameters
        ----------
        name : str
            Hub name or local folder of a wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint.
        exit_layers : Sequence[int], optional
            Every second layer by default.
        vocab_size : int, optional
            That of the checkpoint's CTC head by default, or of our characters.
        **changes : Any
            Other fields of the configuration.

        Raises
        ------
        BackboneError
            If there is no such checkpoint, it is of another architecture, or has fewer layers.
        """
        config, source = backbone.describe(name, exit_layers, vocab_size)
        config.update(changes)
        model = cls(config)
        model.load_backbone(backbone.weights(name, source, config), name)
        return model

    def load_backbone(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Take over a checkpoint's tensors; what it cannot have, new heads, stays as it is.

        Raises
        ------
        BackboneError
            If one is missing.
        """
        own = {key: key.replace(".base_layer.", ".") for key in self.state_dict()}
        new = {key for key in own if key.startswith("exits.") or ".lora_" in key}
        new |= own.keys() & {"masked_spec_embed"}  # not every checkpoint was trained with masks
        if missing := sorted(set(own.values()) - weights.keys() - {own[key] for key in new}):
            raise backbone.BackboneError(f"model: found no {missing[0]} in {name}")
        state = {key: weights[source] for key, source in own.items() if source in weights}
        self.load_state_dict(state, strict=False)

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
        frozen: FrozenOutput | None = None,
    ) -> EarlyExitOutput:
        """Run all exits.

        Parameters
        ----------
        input_values : Tensor
            Waveforms at 16 kHz, ``[batch, samples]``.
        attention_mask : Tensor, optional
            ``[batch, samples]``, 1 where a sample belongs to its utterance, then 0; all by default.
        labels : Tensor, optional
            ``[batch, labels]``, padded with -100.
        output_hidden_states : bool
            Whether to return what each exit's head sees.
        frozen : FrozenOutput, optional
            What ``frozen_output`` gave for the same audio, in place of ``input_values``.
        """
        known = frozen or self._front_end(input_values, attention_mask)
        lengths, hidden_states = known.lengths, self._hidden_states(known)
        logits = [
            head(state) for head, state in zip(self.exits.values(), hidden_states, strict=True)
        ]
        output = EarlyExitOutput(logits=logits, lengths=lengths)
        if labels is not None:
            blank = self.config.pad_token_id
            output.losses = torch.stack([loss.ctc(x, lengths, labels, blank) for x in logits])
            kind = self.config.exit_loss
            output.loss = loss.exits_loss(output.losses, logits, lengths, kind)
        if output_hidden_states:
            output.hidden_states = hidden_states
        return output

    def _front_end(self, samples: Tensor | None, attention_mask: Tensor | None) -> FrozenOutput:
        if samples is None:
            raise ValueError("forward: found neither input_values nor frozen, wanted one of them")
        if attention_mask is None:
            attention_mask = torch.ones_like(samples, dtype=torch.long)
        samples, lengths = samples * attention_mask, attention_mask.sum(-1)
        features, lengths = self.feature_extractor(samples, lengths)
        return FrozenOutput(FRONTEND, features[None], lengths)

    def _hidden_states(self, known: FrozenOutput) -> list[Tensor]:
        if known.depth == FRONTEND:
            hidden, _ = self.feature_projection(known.states[0])
            hidden = self._masked(hidden, known.lengths)
            at_exits: list[Tensor] = self.encoder(hidden, known.lengths)
            return at_exits
        ready = [layer for layer in self.config.exit_layers if layer <= known.depth]
        hidden = self._masked(known.states[-1], known.lengths)
        deeper, _ = self.encoder.through(hidden, known.lengths, after=known.depth)
        return [*known.states[: len(ready)], *deeper]

    def _masked(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        if not self.training:
            return hidden
        return mask_features(hidden, lengths, self.config, self.masked_spec_embed)

    @torch.no_grad()
    def frozen_output(
        self, input_values: Tensor, attention_mask: Tensor | None, depth: int
    ) -> FrozenOutput:
        """Return what the frozen part gives, without dropout: all up to layer ``depth``.

        Parameters
        ----------
        input_values, attention_mask : Tensor
            As for ``forward``.
        depth : int
            0 for the front end alone, or an encoder layer; a cut model has fewer of them.
        """
        was_training = self.training
        self.eval()
        known = self._front_end(input_values, attention_mask)
        depth = min(depth, self.config.num_hidden_layers)
        if depth > FRONTEND:
            hidden, _ = self.feature_projection(known.states[0])
            hidden = self.encoder.positioned(hidden, known.lengths)
            states, hidden = self.encoder.through(hidden, known.lengths, last=depth)
            if depth not in self.config.exit_layers:
                states = [*states, hidden]
            known = FrozenOutput(depth, torch.stack(states), known.lengths)
        self.train(was_training)
        return known

    def owner_exits(self) -> dict[str, int]:
        """Return ``{name: shallowest exit that needs it, 0 if all do}`` for the state_dict."""
        return cutting.owner_exits(self.state_dict(), self.config.exit_layers)

    def cut(self, exit: int) -> "EarlyExitForCTC":
        """Return a new, really smaller model with exits 1..``exit``; the weights are copies.

        Raises
        ------
        ValueError
            If the model has no such exit.
        """
        smaller = EarlyExitForCTC(self.config.cut(exit))
        weights = self.state_dict()
        smaller.load_state_dict({name: weights[name] for name in smaller.state_dict()})
        smaller.to(self.device).train(self.training)
        return smaller


AutoConfig.register(EarlyExitConfig.model_type, EarlyExitConfig)
AutoModelForCTC.register(EarlyExitConfig, EarlyExitForCTC)

__all__ = ["EarlyExitForCTC", "EarlyExitOutput"]
