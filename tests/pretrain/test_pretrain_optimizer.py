import pytest
import torch
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, GPT2Config, ModernBertConfig

from wellread.pretrain.optimizer import (
    MOMENTUM,
    Optimizer,
    embeddings,
    hidden_matrices,
    muon_update,
    orthogonalise,
)
from wellread.settings import PretrainSettings, SparsitySettings
from wellread.sparsity.linear import sparsify
from wellread.sparsity.structure import Structure


def random_matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(128, 512), (512, 128)])
def test_muon_singular_values_are_near_one(shape, kind):
    found = orthogonalise(random_matrix(*shape), kind)
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.25


def test_muon_keeps_the_singular_vectors():
    matrix = random_matrix(24, 40)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    middle = u.T @ orthogonalise(matrix) @ v.T
    assert float((middle - torch.diag(middle.diagonal())).abs().max()) < 1e-4


@pytest.mark.parametrize("scale", [2.0**-20, 1e-6, 3.0, 1e6])
def test_muon_step_does_not_change_when_gradients_are_scaled(scale):
    gradients = [random_matrix(16, 48, seed) for seed in range(3)]
    updates = []
    for factor in (1.0, scale):
        momentum = torch.zeros(16, 48)
        for gradient in gradients:
            update = muon_update(gradient * factor, momentum)
        updates.append(update)
    torch.testing.assert_close(updates[0], updates[1], rtol=1e-4, atol=1e-5)


def test_muon_by_the_formula():
    first, second = random_matrix(8, 8, 1), random_matrix(8, 8, 2)
    momentum = torch.zeros(8, 8)
    muon_update(first, momentum)
    update = muon_update(second, momentum)
    expected = MOMENTUM * first + second
    torch.testing.assert_close(momentum, expected)
    torch.testing.assert_close(update, orthogonalise(second + MOMENTUM * expected))


def test_muon_agrees_with_torch_within_bfloat16():
    ours = torch.nn.Parameter(random_matrix(32, 16, 3))
    theirs = torch.nn.Parameter(ours.detach().clone())
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    momentum = torch.zeros(32, 16)
    for seed in range(4):
        theirs.grad = random_matrix(32, 16, seed)
        reference.step()
        with torch.no_grad():
            update = muon_update(theirs.grad, momentum)
            ours.mul_(1 - 0.02 * 0.1).add_(update, alpha=-0.02 * 2**0.5)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-3)


def test_a_zero_gradient_moves_nothing():
    assert orthogonalise(torch.zeros(4, 6)).abs().max() == 0


def modernbert():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return AutoModelForMaskedLM.from_config(ModernBertConfig(vocab_size=50, pad_token_id=0, **shape))


def moved(model, before):
    """How far each parameter went, at most."""
    return {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_embeddings_have_a_rate_of_their_own(kind):
    model = modernbert()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = PretrainSettings(optimizer=kind, learning_rate=1e-3, embedding_learning_rate=8e-3)
    optimizer = Optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.5)
    far = moved(model, before)
    table = "model.embeddings.tok_embeddings.weight"
    assert far.pop(table) == pytest.approx(4e-3, rel=1e-4)  # AdamW's first step is the rate, the head is tied
    assert far["decoder.bias"] == pytest.approx(5e-4, rel=1e-3)
    assert far["model.final_norm.weight"] == pytest.approx(5e-4, rel=1e-3)


def test_without_it_embeddings_go_as_fast_as_the_rest():
    states = []
    for rate in (None, 1e-3):
        model = modernbert()
        optimizer = Optimizer(model, PretrainSettings(learning_rate=1e-3, embedding_learning_rate=rate))
        for parameter in model.parameters():
            parameter.grad = torch.sin(torch.arange(parameter.numel())).view_as(parameter)
        optimizer.step(1.0)
        states.append({name: p.detach() for name, p in model.named_parameters()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_embedding_tables_are_found_by_their_kind():
    assert embeddings(modernbert()) == {"model.embeddings.tok_embeddings.weight"}
    bert = AutoModelForMaskedLM.from_config(
        BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    )
    names = {name.rsplit(".", 2)[1] for name in embeddings(bert)}
    assert names == {"word_embeddings", "position_embeddings", "token_type_embeddings"}


def test_hidden_matrices_leave_out_embeddings_head_and_norms():
    names = hidden_matrices(modernbert())
    assert {name.split("layers.")[1] for name in names} == {
        f"{layer}.{part}.weight" for layer in (0, 1) for part in ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
    }
    sparse = modernbert()
    sparsify(sparse, SparsitySettings(level=0.5), seed=0)
    packed = {name.removesuffix("weight") + "values" for name in names}
    assert hidden_matrices(sparse).keys() == packed


@pytest.mark.parametrize("sparse", [False, True])
def test_muon_scales_tall_matrices_by_outputs_over_inputs(sparse):
    """Of a matrix with orthogonal gradient U, the step is rate x sqrt(max(1, outputs / inputs)) x U."""
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    if sparse:
        sparsify(model, SparsitySettings(level=0.5), seed=0)
    hidden = hidden_matrices(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(
        model, PretrainSettings(optimizer="muon", weight_decay=0.0, clip=1e9, precision="fp32")
    )
    for name, parameter in model.named_parameters():
        parameter.grad = torch.zeros_like(parameter)
        if name in hidden:
            torch.manual_seed(0)
            parameter.grad = torch.randn(parameter.shape)
    gradients = {name: model.get_parameter(name).grad.clone() for name in hidden}
    optimizer.step(1.0)
    for name, layer in hidden.items():
        outputs, inputs = layer.shape if sparse else reversed(layer.weight.shape)
        structure = layer.structure if sparse else None
        update = muon_update(gradients[name], torch.zeros_like(before[name]), structure)
        expected = before[name] - 0.02 * max(1.0, outputs / inputs) ** 0.5 * update
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, msg=name)


def test_muon_on_packed_values_is_muon_on_the_dense_matrix_with_the_rest_dropped():
    live = torch.rand(24, 40, generator=torch.Generator().manual_seed(0)) < 0.3
    structure = Structure.of(live)
    gradient = torch.randn(24, 40) * live
    packed, dense = torch.zeros(structure.values_shape), torch.zeros(24, 40)
    for _ in range(2):
        found = muon_update(structure.pack(gradient), packed, structure)
        expected = muon_update(gradient, dense)
        assert torch.equal(structure.unpack(found), expected * live)
        assert torch.equal(structure.unpack(packed), dense)


def test_what_sparsity_drops_of_a_step_cost_no_descent():
    """The momentum is zero where no weight lives, so the loss falls to first order as with the whole step."""
    live = torch.rand(24, 40, generator=torch.Generator().manual_seed(0)) < 0.25
    momentum = random_matrix(24, 40) * live
    whole = orthogonalise(momentum)
    assert float(((whole * live) * momentum).sum()) == pytest.approx(
        float((whole * momentum).sum()), rel=1e-5
    )
    values = torch.linalg.svdvals(momentum)  # the steepest fall for a step of spectral norm one is their sum
    assert float((whole * momentum).sum()) == pytest.approx(float(values.sum()), rel=0.25)


def test_nothing_is_dropped_of_a_step_where_blocks_share_no_row_or_column():
    live = torch.zeros(32, 32, dtype=torch.bool)
    for row, column in ((0, 8), (8, 24), (16, 0), (24, 16)):
        live[row : row + 8, column : column + 8] = True
    structure = Structure.of(live, 8)
    gradient = random_matrix(32, 32, 4) * live
    update = structure.unpack(
        muon_update(structure.pack(gradient), torch.zeros(structure.values_shape), structure)
    )
    values = torch.linalg.svdvals(update)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.25


def step(model, optimizer, seed, factor=1.0):
    for number, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.clip()
    optimizer.step(factor)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_saved_state_goes_on_to_the_bit(kind):
    settings = PretrainSettings(optimizer=kind)
    model = modernbert()
    optimizer = Optimizer(model, settings)
    for seed in range(3):
        step(model, optimizer, seed)
    state = load(save(optimizer.state()))
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step(model, optimizer, 3)

    other = modernbert()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(weights[name])
    resumed = Optimizer(other, settings)
    resumed.load(state)
    step(other, resumed, 3)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name]), name


@pytest.mark.parametrize(
    ("kind", "given", "decay"),
    [("adamw", 0.5, 0.5), ("muon", 0.5, 0.5), ("adamw", None, 0.01), ("muon", None, 0.1)],
)
def test_only_hidden_matrices_decay(kind, given, decay):
    model = modernbert()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    settings = PretrainSettings(optimizer=kind, weight_decay=given, learning_rate=0.1, muon_learning_rate=0.2)
    optimizer = Optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    hidden = hidden_matrices(model)
    for name, parameter in model.named_parameters():
        rate = 0.1 if kind == "adamw" else 0.2
        kept = 1 - rate * decay if name in hidden else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept, msg=name)


def test_adamw_is_torchs_own():
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(config)
    torch.manual_seed(0)
    twin = AutoModelForMaskedLM.from_config(config)
    settings = PretrainSettings(weight_decay=0.0, clip=1e9)
    optimizer = Optimizer(model, settings)
    plain = torch.optim.AdamW(
        twin.parameters(), lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, weight_decay=0.0
    )
    for seed in range(3):
        step(model, optimizer, seed)
        for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
            other.grad = parameter.grad.clone()
        plain.step()
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-6)


def test_clip_returns_the_norm_before():
    model = modernbert()
    optimizer = Optimizer(model, PretrainSettings(clip=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert optimizer.clip() == pytest.approx(count**0.5, rel=1e-5)
    squares = sum(float(parameter.grad.square().sum()) for parameter in model.parameters())
    assert squares**0.5 == pytest.approx(0.5, rel=1e-4)


def test_an_optimiser_that_is_not_here_is_refused_and_not_trained_as_adamw():
    settings = PretrainSettings(weight_decay=0.1).model_copy(update={"optimizer": "lion"})
    with pytest.raises(KeyError, match="lion"):
        Optimizer(modernbert(), settings)
