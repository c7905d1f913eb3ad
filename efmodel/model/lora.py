"""Low-rank additions to the encoder layers (LoRA, Hu et al., arXiv 2106.09685), by peft.

They are part of the model's configuration (``lora_rank``), so that cutting, sending and averaging
treat their tensors like any others; when a run ends they are merged into the layers.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efmodel.model.early_exit import EarlyExitForCTC

_ATTENTION = ["q_proj", "v_proj"]
# WavLM's attention reads its projections' weights itself and would pass an addition by.
_FEED_FORWARD = ["intermediate_dense", "output_dense"]


def add_adapters(model: "EarlyExitForCTC") -> None:
    """Give a new model the additions that its configuration asks for; they change nothing yet."""
    rank = model.config.lora_rank
    if not rank:
        return
    from peft import LoraConfig, inject_adapter_in_model  # a second of imports, for who needs it

    targets = _FEED_FORWARD if model.config.layer_type == "wavlm" else _ATTENTION
    sizes: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    inject_adapter_in_model(LoraConfig(**sizes), model.encoder.layers)


def with_adapters(model: "EarlyExitForCTC", rank: int) -> "EarlyExitForCTC":
    """Return the same model with additions, which change nothing until they are trained."""
    config = type(model.config).from_dict({**model.config.to_dict(), "lora_rank": rank})
    larger = type(model)(config)
    larger.load_backbone(model.state_dict(), "the model")
    return larger


def merged(model: "EarlyExitForCTC") -> "EarlyExitForCTC":
    """Return the same model without additions: each is in the layer that it was added to."""
    if not model.config.lora_rank:
        return model
    from peft.tuners.lora import LoraLayer

    config = type(model.config).from_dict({**model.config.to_dict(), "lora_rank": 0})
    plain = type(model)(config)
    state = {
        name.replace(".base_layer.", "."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            state[f"{name}.weight"] += module.get_delta_weight("default").detach()
    plain.load_state_dict(state)
    plain.to(model.device).train(model.training)
    return plain
