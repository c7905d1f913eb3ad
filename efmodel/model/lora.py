"""LoRA adapters in the encoder layers (Hu et al., arXiv 2106.09685), made by peft.

The configuration's ``lora_rank`` says whether a model has them, so cutting, sending and averaging
treat their tensors like all others. At the end of a run they are merged into the layers.
"""

from typing import Any, TypeVar

from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)  # an EarlyExitForCTC, which imports this module

_ATTENTION = ["q_proj", "v_proj"]
# WavLM's attention uses the weights of its projections directly and would ignore an adapter there.
_FEED_FORWARD = ["intermediate_dense", "output_dense"]


def add_adapters(model: PreTrainedModel) -> None:
    """Add the adapters that the model's configuration asks for.

    A new adapter's output is zero.
    """
    rank = model.config.lora_rank
    if not rank:
        return
    import torch.distributed.tensor  # noqa: F401  (peft reads it; efmodel.light_imports skips it)
    from peft import LoraConfig, inject_adapter_in_model  # takes a second to import

    targets = _FEED_FORWARD if model.config.layer_type == "wavlm" else _ATTENTION
    sizes: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    inject_adapter_in_model(LoraConfig(**sizes), model.encoder.layers)


def with_adapters(model: Model, rank: int) -> Model:
    """Return a copy of the model with adapters of this rank; their output is zero until trained."""
    larger: Model = type(model)(model.config.changed(lora_rank=rank))
    larger.to(model.device, model.dtype).train(model.training)
    larger.load_backbone(model.state_dict(), "the model")
    return larger


def merged(model: Model) -> Model:
    """Return the model with each adapter merged into its layer; a model without any as it is."""
    if not model.config.lora_rank:
        return model
    from peft.tuners.lora import LoraLayer

    plain: Model = type(model)(model.config.changed(lora_rank=0))
    plain.to(model.device, model.dtype).train(model.training)
    state = {
        name.replace(".base_layer.", "."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            state[f"{name}.weight"] += module.get_delta_weight("default").detach()
    plain.load_state_dict(state)
    return plain
