"""The early-exit model: front end, a stack of wav2vec2's encoder layers, a CTC head per exit."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2EncoderLayer,
    Wav2Vec2EncoderLayerStableLayerNorm,
    Wav2Vec2FeatureProjection,
    Wav2Vec2PositionalConvEmbedding,
    Wav2Vec2PreTrainedModel,
)
from transformers.utils import ModelOutput

from efmodel import cutting, loss
from efmodel.config import EarlyExitConfig
from efmodel.masking import mask_features
from efmodel.mel import MelFeatureExtractor, frame_mask
from efmodel.waveform import WaveformFeatureExtractor


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

    With wav2vec2's post-norm layers (``do_stable_layer_norm=False``) each layer ends in a norm of
    its own, and the head adds none.
    """

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        if config.do_stable_layer_norm:
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.final_dropout)
        self.projection = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits ``[batch, frames, vocab]`` for ``hidden`` ``[batch, frames, hidden]``."""
        logits: Tensor = self.projection(self.dropout(self.norm(hidden)))
        return logits.float()


class EarlyExitEncoder(nn.Module):
    """Position and encoder layers, by wav2vec2's names; hands out the hidden state at each exit."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_conv_embed = Wav2Vec2PositionalConvEmbedding(config)
        # The final norm of a pre-norm stack is each exit's own; a post-norm stack starts with one.
        self.layer_norm: nn.Module = nn.Identity()
        layer_class = Wav2Vec2EncoderLayerStableLayerNorm
        if not config.do_stable_layer_norm:
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            layer_class = Wav2Vec2EncoderLayer
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(layer_class(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return E hidden states ``[batch, frames, hidden]``, shallow to deep.

        ``hidden`` is ``[batch, frames, hidden]`` and ``lengths`` each utterance's frames.
        """
        mask = frame_mask(lengths, hidden.shape[1])
        hidden = hidden * mask[:, :, None]
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=mask
        )
        hidden = self.dropout(self.layer_norm(hidden + self.pos_conv_embed(hidden)))
        at_exits = []
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, attention_mask=attention_mask)
            if number in self.config.exit_layers:
                at_exits.append(hidden)
        return at_exits


class EarlyExitForCTC(Wav2Vec2PreTrainedModel):  # type: ignore[misc]
    """A speech recogniser that can be cut at any of its exits."""

    config: EarlyExitConfig
    config_class = EarlyExitConfig
    base_model_prefix = ""
    _can_record_outputs: dict[str, object] = {}  # hidden states at the exits are our own affair

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__(config)
        extractor = {"mel": MelFeatureExtractor, "waveform": WaveformFeatureExtractor}
        self.feature_extractor = extractor[config.frontend](config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.masked_spec_embed: nn.Parameter | None = None  # wav2vec2's name
        if config.mask_time_prob:
            self.masked_spec_embed = nn.Parameter(torch.rand(config.hidden_size))
        self.encoder = EarlyExitEncoder(config)
        self.exits = nn.ModuleDict({str(e + 1): ExitHead(config) for e in range(config.num_exits)})
        self.post_init()

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
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
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_values, dtype=torch.long)
        samples = input_values * attention_mask
        features, lengths = self.feature_extractor(samples, attention_mask.sum(-1))
        hidden, _ = self.feature_projection(features)
        if self.training:
            hidden = mask_features(hidden, lengths, self.config, self.masked_spec_embed)
        hidden_states = self.encoder(hidden, lengths)
        logits = [
            head(state) for head, state in zip(self.exits.values(), hidden_states, strict=True)
        ]
        output = EarlyExitOutput(logits=logits, lengths=lengths)
        if labels is not None:
            blank = self.config.pad_token_id
            output.losses = torch.stack([loss.ctc(x, lengths, labels, blank) for x in logits])
            output.loss = loss.combine(output.losses, self.config.exit_loss)
        if output_hidden_states:
            output.hidden_states = hidden_states
        return output

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
