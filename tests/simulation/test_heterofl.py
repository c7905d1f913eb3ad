"""HeteroFL: slices by width, the mean of every element, and a run of real clients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app import app
from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.model.compute import multiply_adds
from efmodel.protocol import MODEL_CONFIG, describe_model, read_model
from efmodel.settings import Settings, SettingsError
from server_app.federation import federate
from server_app.results.versions import versions
from server_app.run_folder import read_metrics
from server_app.strategy import PartialFedAvg
from server_app.strategy.registry import build
from simulation.heterofl import HeteroFL, SliceMean, narrow, num_parameters, part, widths
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults
from tests.conftest import small_config
from tests.server_app.federation import drifting

KINDS = {
    "transformer": dict(num_conv_pos_embedding_groups=8),
    "waveform": dict(frontend="waveform", do_stable_layer_norm=False, feat_extract_norm="group"),
    "wavlm": dict(frontend="waveform", layer_type="wavlm"),
    "data2vec": dict(
        frontend="waveform", conv_pos_kernel_size=19, num_conv_pos_embeddings=2,
        feat_extract_norm="layer", do_stable_layer_norm=False,
    ),
    "conformer": dict(layer_type="conformer", conv_depthwise_kernel_size=5),
}  # fmt: skip


def numbered(whole: EarlyExitForCTC) -> dict[str, np.ndarray]:
    """Tensors of the whole model's shapes in which every element is another number."""
    return {
        name: np.arange(tensor.numel(), dtype=np.float64).reshape(tensor.shape)
        for name, tensor in whole.state_dict().items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_slices_of_any_kind_of_model_are_a_narrower_model(kind, heads):
    config = small_config(**KINDS[kind])
    narrower = EarlyExitForCTC(narrow(config, heads, 31)).state_dict()
    assert narrower["exits.1.projection.weight"].shape == (config.vocab_size, 8 * heads)
    values = numbered(EarlyExitForCTC(config))
    for name, tensor in narrower.items():
        values_of = values[name.replace("exits.1.", "exits.3.")]
        slices = part(name, values_of, tensor.shape)
        assert slices.reshape(tensor.shape).shape == tensor.shape
        assert np.shares_memory(slices, values_of)


def test_positional_convolution_and_gate_of_a_slice_are_the_whole_ones_channels():
    """What the leading channels of the whole module give, the narrow module gives."""
    torch.manual_seed(0)
    config = small_config(**KINDS["transformer"])
    wide, slim = EarlyExitForCTC(config), EarlyExitForCTC(narrow(config, 2, 24))
    conv, slim_conv = wide.encoder.pos_conv_embed.conv, slim.encoder.pos_conv_embed.conv
    assert slim_conv.groups == 4 and conv.groups == 8
    weight = part("conv.weight", conv.weight, slim_conv.weight.shape)
    sound = torch.randn(1, 32, 50)
    near = torch.nn.functional.conv1d(sound[:, :16], weight, padding=8, groups=slim_conv.groups)
    whole = torch.nn.functional.conv1d(sound, conv.weight, padding=8, groups=8)
    assert torch.allclose(near, whole[:, :16], atol=1e-6)

    gate = torch.nn.Linear(32, 64)
    frames = torch.cat([torch.randn(5, 16), torch.zeros(5, 16)], 1)  # of a narrow model, padded
    weight = part("conv_module.gate.weight", gate.weight, (32, 16)).reshape(32, 16)
    bias = part("conv_module.gate.bias", gate.bias, (32,)).reshape(32)
    gated = torch.nn.functional.glu(frames[:, :16] @ weight.t() + bias)
    assert torch.allclose(gated, torch.nn.functional.glu(gate(frames))[:, :16], atol=1e-6)


@given(
    held=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 5), st.floats(0.5, 50)), min_size=1, max_size=6
    ),
    gate=st.booleans(),
)
@settings(deadline=None)
def test_each_element_is_the_mean_over_those_that_hold_it(held, gate):
    rng = np.random.default_rng(0)
    name = "layer.gate.weight" if gate else "exits.3.weight"
    current = rng.normal(size=(12 if gate else 6, 5)).astype(np.float32)
    mean = SliceMean({name: current}, lambda name: name.replace("exits.1.", "exits.3."))
    weights, sums = np.zeros(current.shape), np.zeros(current.shape)
    for rows, columns, weight in held:
        # Independently: one element after the other.
        own = [*range(rows), *(range(6, 6 + rows) if gate else ())]
        values = rng.normal(size=(len(own), columns)).astype(np.float32)
        for place, row in enumerate(own):
            for column in range(columns):
                weights[row, column] += weight
                sums[row, column] += weight * values[place, column]
        mean.add({name.replace("exits.3.", "exits.1."): values}, weight)
    wanted = np.where(weights > 0, sums / np.maximum(weights, 1e-9), current)
    found = mean.mean(name, current)
    assert found.dtype == current.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[weights == 0], current[weights == 0])


@pytest.mark.parametrize("name", ["tiny", "small", "paper", "wav2vec2-base"])
def test_a_width_has_the_parameters_of_the_model_cut_at_its_exit(name):
    config = preset(name)
    found = widths(config)
    for exit, width in enumerate(found, start=1):
        ratio = num_parameters(width) / num_parameters(config.cut(exit))
        assert 0.98 < ratio < 1.001, (exit, ratio)
        assert width.exit_layers == [config.num_hidden_layers]
        head = config.hidden_size // config.num_attention_heads
        assert width.hidden_size == head * width.num_attention_heads
    assert found[-1].intermediate_size == config.intermediate_size
    sizes = [num_parameters(width) for width in found]
    assert sizes == sorted(sizes)
    assert num_parameters(found[0]) == sum(
        parameter.numel() for parameter in EarlyExitForCTC(found[0]).parameters()
    )


def test_a_message_is_a_whole_model_of_its_width(model, tokenizer):
    grid = LocalGrid(drifting({1: 1, 2: 3}), [1, 2])
    strategy = HeteroFL(model.owner_exits(), fraction_train=1.0)
    request, start = describe_model(model.config, tokenizer), ArrayRecord(model.state_dict())
    messages = list(strategy.configure_train(1, start, request, grid))
    by_node = {message.metadata.dst_node_id: message for message in messages}
    state = model.state_dict()
    for node, width in ((1, strategy.widths[0]), (2, strategy.widths[2])):
        content = by_node[node].content
        config, _ = read_model(content["config"])
        assert content["config"]["capacity"] == 1 and config.num_exits == 1
        assert config.hidden_size == width.hidden_size
        slim = EarlyExitForCTC(config.cut(1))
        slim.load_state_dict(content["arrays"].to_torch_state_dict())  # strict: all, none too many
        head = slim.exits["1"].projection.weight
        assert torch.equal(head, state["exits.3.projection.weight"][:, : width.hidden_size])
    assert request[MODEL_CONFIG] == model.config.to_json_string()  # the others' is left alone
    assert strategy.report.sampled == {"1": 1, "2": 3}


def test_what_nobody_held_stays_and_the_report_speaks_of_widths(model, tokenizer):
    strategy = HeteroFL(model.owner_exits(), fraction_train=1.0)
    grid = LocalGrid(drifting({1: 1, 2: 1}), [1, 2])
    start = ArrayRecord(model.state_dict())
    messages = strategy.configure_train(1, start, describe_model(model.config, tokenizer), grid)
    new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert strategy.report.trainers(3) == [2, 0, 0] and not strategy.report.failed
    size = strategy.widths[0].hidden_size
    name = "encoder.layers.0.attention.q_proj.weight"
    before, after = start[name].numpy(), new[name].numpy()
    assert size < before.shape[0]
    assert (after[:size, :size] != before[:size, :size]).all()
    assert (after[size:] == before[size:]).all() and (after[:, size:] == before[:, size:]).all()
    assert new["exits.1.projection.weight"] == start["exits.1.projection.weight"]


def test_at_full_width_it_is_partial_fedavg(model, tokenizer):
    """The same clients, all at full width: one has a head where the other has three."""
    start = ArrayRecord(model.state_dict())
    moves = {n: np.random.default_rng(len(n)).normal(size=a.shape) for n, a in start.items()}

    def play(message: Message) -> Message:
        reply = drifting({1: 3, 2: 3}, lambda node: 7 * node)(message)
        if message.metadata.message_type == "train":
            node = message.metadata.dst_node_id
            got = message.content["arrays"]
            last = "exits.3." if "exits.3.projection.bias" in got else "exits.1."
            moved = {}
            for name, array in got.items():
                move = moves[name.replace(last, "exits.3.")] if last in name else moves[name]
                moved[name] = Array((array.numpy() + node * move).astype(np.float32))
            reply.content["arrays"] = ArrayRecord(moved)
        return reply

    def rounds(kind) -> ArrayRecord:
        strategy = kind(model.owner_exits(), fraction_train=1.0)
        request, arrays, grid = (
            describe_model(model.config, tokenizer),
            start,
            LocalGrid(play, [1, 2]),
        )
        for server_round in (1, 2):
            messages = strategy.configure_train(server_round, arrays, request, grid)
            arrays, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
        return arrays

    wide, partial = rounds(HeteroFL), rounds(PartialFedAvg)
    for name in start:
        if name.startswith(("exits.1.", "exits.2.")):
            assert wide[name] == start[name]
        else:
            wanted = partial[name].numpy()
            np.testing.assert_allclose(wide[name].numpy(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"wire_dtype": "int8"}, "wire-dtype: found 'int8', wanted 'float32'"),
        ({"coverage": "cohort"}, "coverage: found 'cohort', wanted 'trainers'"),
        ({"client_moments": "server"}, "client-moments: found 'server', wanted 'fresh'"),
        ({"max_update_norm": "auto"}, "max-update-norm: found 'auto', wanted 'off'"),
    ],
)
def test_what_it_cannot_do_is_refused(model, changes, complaint):
    own = replace(Settings(), strategy="simulation.heterofl:HeteroFL", **changes)
    with pytest.raises(SettingsError, match=complaint):
        build(own, model.owner_exits())
    with pytest.raises(
        SettingsError, match="freeze or train: found 'frozen tensors', wanted 'all'"
    ):
        build(replace(own, **{key: getattr(Settings(), key) for key in changes}),
              model.owner_exits(), frozen={"exits.1.norm.bias"})  # fmt: skip


def run(folder, **changes):
    """Return the metrics of a run of six real clients in this process."""
    config = {
        **defaults(), "strategy": "simulation.heterofl:HeteroFL", "rounds": 2, "local-epochs": 1,
        "max-utterances": 16, "fraction-train": 1.0, "lr-schedule": "constant", "augment": "off",
        "capacities": "0.5,0.3,0.2", "output": str(folder),
    } | changes  # fmt: skip

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"partition-id": node - 1, "num-partitions": 6}
        return app(message, Context(1, node, place, RecordDict(), config))

    grid = LocalGrid(play, range(1, 7))
    return federate(grid, Context(1, 0, {}, RecordDict(), config))


def test_real_clients_learn_and_each_width_is_scored(tmp_path):
    folder = run(tmp_path / "run")
    first, second = read_metrics(folder.metrics)
    assert first["failures"] == {} and first["answered"] == 6
    assert first["trainers-per-exit"] == [6, 3, 1]
    for key in ("loss", "wer", "cer"):
        assert len(first[key]) == len(second[key]) == 3
    assert all(new < old for new, old in zip(second["loss"], first["loss"], strict=True))
    assert len(set(second["loss"])) == 3
    assert len(second["clients"]["train-loss"]) == 1
    assert second["clients"]["train-loss"][0] < first["clients"]["train-loss"][0]
    assert second["bytes-down"] < second["bytes-down-full"]
    dear = [
        a / b for a, b in zip(second["multiply-adds"], multiply_adds(preset("tiny")), strict=True)
    ]
    assert dear == pytest.approx([1.161, 1.085, 0.996], abs=2e-3)  # than a cut of as many numbers

    # The model at the end is the whole one, trained but for the heads that HeteroFL has not.
    model = EarlyExitForCTC.from_pretrained(folder.model)
    assert model.config.num_exits == 3 and model.config.hidden_size == 144
    assert (model.exits["1"].projection.bias == 0).all()  # as it started
    assert (model.exits["3"].projection.bias != 0).any()

    resumed = run(tmp_path / "run", rounds=3, resume=str(tmp_path / "run"))
    assert [each["round"] for each in read_metrics(resumed.metrics)] == [1, 2, 3]
    assert resumed.about()["versions"] == [versions()]  # the same for both
