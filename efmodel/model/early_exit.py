"""The early-exit model: front end, encoder, and a CTC head per exit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2FeatureProjection,
    Wav2Vec2PreTrainedModel,
)
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.utils import is_tracing
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from efmodel.config import EarlyExitConfig
from efmodel.model import backbone, card, cutting, folder, loss
from efmodel.model.dropout import use_fast_dropout
from efmodel.model.encoder import EarlyExitEncoder
from efmodel.model.frozen import FRONTEND, FrozenOutput
from efmodel.model.lora import add_adapters
from efmodel.model.masking import mask_features
from efmodel.model.mel import MelFeatureExtractor
from efmodel.model.output import EarlyExitOutput, ExitLogits
from efmodel.model.waveform import WaveformFeatureExtractor


class ExitHead(nn.Module):
    """One exit: layer norm, dropout, and a linear layer to the vocabulary.

    Conformer layers and wav2vec2's post-norm layers (``do_stable_layer_norm=False``) end in a norm
    themselves; after those the head has none.
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


class EarlyExitForCTC(Wav2Vec2PreTrainedModel):  # type: ignore[misc]
    """A speech recogniser that can be cut at any of its exits."""

    config: EarlyExitConfig
    config_class = EarlyExitConfig
    base_model_prefix = ""
    # What transformers records in a forward pass; the hidden states at the exits are at hand.
    _can_record_outputs = {
        "attentions": [
            OutputRecorder(kind, index=1, layer_name="encoder")
            for kind in (Wav2Vec2Attention, WavLMAttention)
        ]
    }

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
        use_fast_dropout(self)

    @classmethod
    def from_backbone(
        cls,
        name: str,
        exit_layers: Sequence[int] | None = None,
        vocab_size: int | None = None,
        **changes: Any,
    ) -> "EarlyExitForCTC":
        """Return a model with a pretrained encoder and an exit after each of ``exit_layers``.

        Layers after the deepest exit are dropped. If the checkpoint has a CTC head with
        ``vocab_size`` entries, every exit is initialised from it.

        Parameters
        ----------
        name : str
            Hub name or local folder of a wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint.
        exit_layers : Sequence[int], optional
            Encoder layers from 1; by default every second one and the last.
        vocab_size : int, optional
            By default the size of the checkpoint's CTC head, or of
            :data:`efmodel.speech.vocabulary.CHARACTERS` if it has none.
        **changes : Any
            Further fields of the configuration.

        Raises
        ------
        BackboneError
            If the checkpoint does not exist, has another architecture, or has fewer layers.
        """
        config, source = backbone.describe(name, exit_layers, vocab_size)
        config.update(changes)
        model = cls(config)
        model.load_backbone(backbone.weights(name, source, config), name)
        return model

    def load_backbone(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Load a checkpoint's tensors; heads and LoRA adapters that it lacks stay as they are.

        Parameters
        ----------
        weights : Mapping[str, Tensor]
            Tensors by the names of a model without LoRA adapters.
        name : str
            Name of the checkpoint in an error message.

        Raises
        ------
        BackboneError
            If any other tensor is missing.
        """
        # LoRA renames a layer's tensors: q_proj.weight becomes q_proj.base_layer.weight.
        sources = {key: key.replace(".base_layer.", ".") for key in self.state_dict()}
        optional = {key for key in sources if key.startswith("exits.") or ".lora_" in key}
        optional.add("masked_spec_embed")  # not every checkpoint was trained with masks
        required = {source for key, source in sources.items() if key not in optional}
        if missing := sorted(required - weights.keys()):
            raise backbone.BackboneError(
                f"model: found no tensor {missing[0]} in {name}, wanted it for the encoder"
            )
        state = {key: weights[source] for key, source in sources.items() if source in weights}
        self.load_state_dict(state, strict=False)

    @capture_outputs  # type: ignore[untyped-decorator]  # handles return_dict and attentions
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        frozen: FrozenOutput | None = None,
        output_attentions: bool | None = None,
    ) -> EarlyExitOutput:
        """Run the front end, the encoder and all exits.

        Parameters
        ----------
        input_values : Tensor
            Waveforms at 16 kHz, ``[batch, samples]``, of any floating type.
        attention_mask : Tensor, optional
            ``[batch, samples]``, 1 for an utterance's samples, then 0 for padding; by default 1
            everywhere.
        labels : Tensor, optional
            ``[batch, labels]``, padded with -100.
        output_hidden_states : bool, optional
            Whether to return the input of each exit's head; by default as the config says.
        frozen : FrozenOutput, optional
            Result of ``frozen_output`` for the same audio, in place of ``input_values``.
        output_attentions : bool, optional
            Whether to return the attention weights of the encoder layers that are run. Layers of
            the kinds transformer and conformer want ``attn_implementation="eager"`` for it.
        return_dict : bool, optional
            False for a tuple of the output's values, without those that are None.

        Raises
        ------
        ValueError
            If neither ``input_values`` nor ``frozen`` is given, if padding is not on the right, or
            if attention weights are asked for that no layer computes.
        """
        if output_attentions or self.config.output_attentions:
            self._check_attentions()
        start = frozen or self._front_end(input_values, attention_mask)
        lengths, hidden_states = start.lengths, self._hidden_states(start)
        logits = [
            head(state) for head, state in zip(self.exits.values(), hidden_states, strict=True)
        ]
        losses = combined = None
        if labels is not None:
            blank = self.config.pad_token_id
            losses = torch.stack([loss.ctc(x, lengths, labels, blank) for x in logits])
            combined = loss.exits_loss(losses, logits, lengths, self.config.exit_loss)
        if not is_tracing(lengths):  # a graph's outputs are plain lists
            logits = ExitLogits(logits, lengths, self.config.pad_token_id or 0)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return EarlyExitOutput(
            loss=combined,
            logits=logits,
            lengths=lengths,
            losses=losses,
            hidden_states=hidden_states if output_hidden_states else None,
        )

    def _check_attentions(self) -> None:
        attention = self.config._attn_implementation
        if self.config.layer_type != "wavlm" and attention != "eager":
            raise ValueError(
                f"output_attentions: found attn_implementation {attention}, wanted eager: "
                'model.set_attn_implementation("eager")'
            )

    def _front_end(self, samples: Tensor | None, attention_mask: Tensor | None) -> FrozenOutput:
        if samples is None:
            raise ValueError("forward: found neither input_values nor frozen, wanted one of them")
        if attention_mask is None:
            attention_mask = torch.ones_like(samples, dtype=torch.long)
        else:
            attention_mask = attention_mask.long()
            check_padding(attention_mask)
        samples, lengths = samples * attention_mask, attention_mask.sum(-1)
        features, lengths = self.feature_extractor(samples, lengths)
        return FrozenOutput(FRONTEND, features[None], lengths)

    def _hidden_states(self, start: FrozenOutput) -> list[Tensor]:
        """Return the hidden states at the exits, going on from the front end or a frozen layer."""
        if start.depth == FRONTEND:
            hidden, _ = self.feature_projection(start.states[0])
            hidden = self._mask_in_training(hidden, start.lengths)
            at_exits: list[Tensor] = self.encoder(hidden, start.lengths)
            return at_exits
        frozen_exits = sum(layer <= start.depth for layer in self.config.exit_layers)
        hidden = self._mask_in_training(start.states[-1], start.lengths)
        deeper, _ = self.encoder.run_layers(hidden, start.lengths, after=start.depth)
        return [*start.states[:frozen_exits], *deeper]

    def first_layer_input(
        self, input_values: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the first layer's input ``[batch, frames, hidden]`` and lengths ``[batch]``.

        Parameters are those of ``forward``; nothing is masked at random.
        """
        features = self._front_end(input_values, attention_mask)
        return self._positioned(features), features.lengths

    def _positioned(self, features: FrozenOutput) -> Tensor:
        """Return the first layer's input ``[batch, frames, hidden]`` of the front end's output."""
        hidden, _ = self.feature_projection(features.states[0])
        return self.encoder.add_positions(hidden, features.lengths)

    def _mask_in_training(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        if not self.training:
            return hidden
        return mask_features(hidden, lengths, self.config, self.masked_spec_embed)

    @torch.no_grad()
    def frozen_output(
        self, input_values: Tensor, attention_mask: Tensor | None, depth: int
    ) -> FrozenOutput:
        """Return the output of the layers up to ``depth``, without dropout.

        Parameters
        ----------
        input_values, attention_mask : Tensor
            As for ``forward``.
        depth : int
            0 for the front end alone, or an encoder layer from 1; at most the model's last one
            is run.
        """
        was_training = self.training
        self.eval()
        output = self._front_end(input_values, attention_mask)
        depth = min(depth, self.config.num_hidden_layers)
        if depth > FRONTEND:
            hidden = self._positioned(output)
            states, hidden = self.encoder.run_layers(hidden, output.lengths, last=depth)
            if depth not in self.config.exit_layers:
                states = [*states, hidden]
            output = FrozenOutput(depth, torch.stack(states), output.lengths)
        self.train(was_training)
        return output

    def save_pretrained(self, save_directory: str | Path, **arguments: Any) -> None:
        """Save the model with its card, and what lets transformers load it.

        Parameters
        ----------
        save_directory : str or Path
            The folder.
        **arguments : Any
            As for every model of transformers.
        """
        self.config.auto_map = dict(folder.AUTO_MAP)
        super().save_pretrained(save_directory, **arguments)
        folder.complete(Path(save_directory))
        card.keep_or_write(Path(save_directory), Path(self.name_or_path))

    def push_to_hub(
        self, repo_id: str, private: bool | None = None, token: str | None = None, **commit: Any
    ) -> str:
        """Upload the model with its card; a card that the repository has is kept.

        Parameters
        ----------
        repo_id : str
            The repository's name, such as "owner/name"; it is made if there is none.
        private : bool, optional
            Whether a new repository is private.
        token : str, optional
            By default that of ``hf auth login``.
        **commit : Any
            ``commit_message``, ``revision`` and the like, for ``huggingface_hub.upload_folder``.

        Returns
        -------
        str
            Address of the commit.
        """
        hub = HfApi(token=token)
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        kept = [card.NAME] if hub.file_exists(repo_id, card.NAME) else None
        with TemporaryDirectory() as files:
            self.save_pretrained(files)
            done = hub.upload_folder(
                repo_id=repo_id, folder_path=files, ignore_patterns=kept, **commit
            )
        return str(done.commit_url)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: the Auto classes know the model, and a folder gets no copy of this file."""

    def owner_exits(self) -> dict[str, int]:
        """Return ``{name: owner exit}`` of the state_dict's tensors; 0 if every exit needs it."""
        return cutting.owner_exits(self.state_dict(), self.config.exit_layers)

    def cut(self, exit: int) -> "EarlyExitForCTC":
        """Return a new, smaller model with exits 1..``exit`` and copies of their weights.

        Raises
        ------
        ValueError
            If the model does not have this exit.
        """
        smaller = EarlyExitForCTC(self.config.cut(exit))
        smaller.to(self.device, self.dtype).train(self.training)
        weights = self.state_dict()
        smaller.load_state_dict({name: weights[name] for name in smaller.state_dict()})
        return smaller


def check_padding(attention_mask: Tensor) -> None:
    """Raise ValueError if a row of ``[batch, samples]`` has a 1 after a 0.

    A graph that is traced has no values to look at: there nothing is checked.
    """
    if attention_mask.is_meta or is_tracing(attention_mask):
        return
    if (attention_mask.diff(dim=1) > 0).any():
        raise ValueError(
            "attention_mask: found samples after padding, wanted each utterance's padding behind "
            'its samples (padding_side="right")'
        )


AutoConfig.register(EarlyExitConfig.model_type, EarlyExitConfig)
AutoModelForCTC.register(EarlyExitConfig, EarlyExitForCTC)

__all__ = ["EarlyExitForCTC"]
