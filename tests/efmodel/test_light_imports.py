"""Models without torch's compiler and sharding: quicker to import, and the same models."""

import subprocess
import sys

import pytest

TRAIN = """
import sys
if {light}:
    from efmodel.light_imports import bring_back_compiler, skip_compiler_and_sharding
    skip_compiler_and_sharding()
import torch
from efmodel import EarlyExitConfig, EarlyExitForCTC
torch.set_num_threads(1)
torch.manual_seed(0)
sizes = dict(hidden_size=32, num_attention_heads=4, intermediate_size=48, num_hidden_layers=2,
             exit_layers=[1, 2], vocab_size=30, pad_token_id=0, conv_depthwise_kernel_size=7)
model = EarlyExitForCTC(EarlyExitConfig(**sizes, **{changes})).train()
model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
samples = torch.linspace(-1, 1, 2 * 9000).reshape(2, 9000).sin()
for step in range(2):
    torch.manual_seed(step)
    loss = model(samples, labels=torch.tensor([[5, 6], [7, 8]])).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
if {light}:
    if {changes} == {{"frontend": "mel"}}:  # peft's adapters and WavLM's attention import more
        unneeded = ("sympy", "torch.distributed.tensor", "torch._dynamo.config")
        assert not [name for name in unneeded if name in sys.modules]
    bring_back_compiler()
    model.save_pretrained({folder!r})
    import torch._dynamo.config
print(float(loss))
"""


@pytest.mark.programs
@pytest.mark.parametrize(
    "changes",
    [
        {"frontend": "mel"},
        pytest.param(
            {"frontend": "mel", "layer_type": "conformer", "lora_rank": 2}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"frontend": "waveform", "layer_type": "wavlm", "conv_dim": [24] * 7},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["transformer", "conformer with adapters", "wavlm"],
)
def test_training_gives_the_same_loss_and_the_compiler_comes_back(changes, tmp_path):
    losses = []
    for light in (True, False):
        script = TRAIN.format(light=light, changes=changes, folder=str(tmp_path / "model"))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        losses.append(float(done.stdout))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert (tmp_path / "model" / "model.safetensors").is_file()
