"""Every family's weights, cache and operations against `transformers`: its own parameters, its own cache after a real pass."""

from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from helpers.estimates import kv_cache_bytes, state_bytes, step_cost
from helpers.model import ModelShape
from tests.families import FAMILIES

LENGTHS = (1, 5, 40)


@cache
def shape_of(name):
    return ModelShape.from_hf(FAMILIES[name]())


@cache
def reader_of(name):
    """`transformers`' own model of the part that reads text, with random weights, on the CPU."""
    text = FAMILIES[name]().get_text_config()
    kind = AutoModelForCausalLM if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
    return kind.from_config(text, attn_implementation="eager", experts_implementation="eager").eval()


def filled(name, batch_size, seq_len):
    """Bytes of per-token tensors and of fixed states that `transformers` keeps after a pass, in fp32."""
    with torch.no_grad():
        ids = torch.randint(3, 90, (batch_size, seq_len))
        layers = reader_of(name)(input_ids=ids, use_cache=True).past_key_values.layers
    grown = [getattr(layer, kind, None) for layer in layers for kind in ("keys", "values", "indexer_keys")]
    fixed = [
        t
        for layer in layers
        for kind in ("conv_states", "recurrent_states")
        for t in getattr(layer, kind, {}).values()
    ]
    return tuple(sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor)) for tensors in (grown, fixed))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_those_of_transformers(name):
    config, shape = FAMILIES[name](), shape_of(name)
    sees = config.get_text_config() is not config
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    assert shape.num_params == sum(parameter.numel() for parameter in model.parameters())
    layers = [p.numel() for n, p in reader_of(name).named_parameters() if ".layers." in f".{n}"]
    assert sum(layer.held for layer in shape.layers) == sum(layers)


@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_cache_is_that_of_transformers_to_the_byte(name, seq_len):
    shape = shape_of(name)
    assert (kv_cache_bytes(shape, 2, seq_len, "fp32"), state_bytes(shape, 2, "fp32")) == filled(
        name, 2, seq_len
    )


@pytest.mark.parametrize("name", ["qwen3-next", "jamba", "nemotron-h"])
def test_states_keep_their_own_type_in_a_16_bit_model(name):
    model = AutoModelForCausalLM.from_config(FAMILIES[name](), dtype=torch.bfloat16).eval()
    with torch.no_grad():
        layers = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values.layers
    kinds = ("conv_states", "recurrent_states")
    states = [t for layer in layers for kind in kinds for t in getattr(layer, kind, {}).values()]
    assert {t.dtype for t in states if t is not None} == {torch.bfloat16, torch.float32}
    assert state_bytes(shape_of(name), 1, "bf16") == sum(t.nbytes for t in states if t is not None)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokens_matrix_products_are_those_that_torch_counts(name):
    """Of one token without history: experts that compute, router, shared experts; attention's own products are not `mm`."""
    model, shape = reader_of(name), shape_of(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.tensor([[5]]), use_cache=False)
    counted = counter.get_flop_counts()["Global"].items()
    matrices = sum(flops for op, flops in counted if str(op) in ("aten.mm", "aten.addmm"))
    outside = [
        m.weight.numel()
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and ".layers." not in f".{n}."
    ]
    assert matrices == 2 * (sum(layer.active for layer in shape.layers) + sum(outside))
    beside = sum(2 * layer.active for layer in shape.layers) + 2 * shape.vocab_size * shape.hidden_size
    assert step_cost(shape, [1], [0]).flops >= beside


def counted(name, cached):
    """Operations that torch counts in `transformers`' own decode step after `cached` tokens, by operator."""
    model, ids = reader_of(name), torch.randint(3, 90, (1, cached + 1))
    with torch.no_grad():
        cache = model(input_ids=ids[:, :cached], use_cache=True).past_key_values
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids[:, cached:], past_key_values=cache, use_cache=True)
    return {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_decode_step_reads_the_weights_that_transformers_multiplies_by(name):
    """One weight in two operations of one token; norms and rows of tables are read beside, biases are left out."""
    shape, model = shape_of(name), reader_of(name)
    flops = counted(name, 5)
    matrices = sum(n for op, n in flops.items() if op in ("aten.mm", "aten.addmm")) // 2
    tables = [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    vectors = sum(
        p.numel()
        for n, p in model.named_parameters()
        if p.ndim < 2 and not n.endswith("bias") and ".layers." not in f".{n}"
    )
    vectors += sum(layer.vectors for layer in shape.layers)
    head = 0 if model.get_output_embeddings() else shape.vocab_size * shape.hidden_size
    read = step_cost(shape, [1], [5], weight_bytes=1.0).weight_bytes
    expected = matrices + head + vectors + sum(table.shape[1] for table in tables)
    # `transformers` unpacks the latents of the history again
    latent = any(layer.latent for layer in shape.layers)
    assert read <= expected if latent else read == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_a_decode_step_moves_the_cache_that_transformers_keeps(name):
    """The history is read; the token's own part is written and read; states are read and written."""
    shape, batch, cached = shape_of(name), 3, 5
    grown, fixed = filled(name, batch, cached)
    own, _ = filled(name, batch, 1)
    again = grown + own if name == "gemma4, shared" else 0  # two of its four layers read what the others keep
    moved = step_cost(shape, [1] * batch, [cached] * batch, element_bytes=4.0).kv_bytes
    assert moved == grown + 2 * own + 2 * fixed + again


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_over_a_longer_history_costs_what_torch_counts(name):
    """Scores and weighted values are batched products; all else in a step costs the same at any length."""
    shape = shape_of(name)
    if any(layer.latent or layer.index_topk for layer in shape.layers):
        pytest.skip("transformers unpacks latents; the absorbed form is held by hand in test_layer_cost")
    short, long = (sum(counted(name, cached).values()) for cached in (5, 40))
    costs = [step_cost(shape, [1], [cached]).flops for cached in (5, 40)]
    assert costs[1] - costs[0] == long - short > 0


def test_published_sizes_follow_from_published_configs():
    """DeepSeek-V3: 61 layers of 512 + 64 elements, 671 billion weights of which 37 billion compute a token (arXiv:2412.19437)."""
    from transformers import DeepseekV3Config

    shape = ModelShape.from_hf(DeepseekV3Config())
    assert kv_cache_bytes(shape, 1, 1) == 61 * 576 * 2
    assert shape.num_params == 671_026_404_352
    active = sum(layer.active for layer in shape.layers) + shape.vocab_size * shape.hidden_size
    assert active == pytest.approx(37e9, rel=0.02)
