"""Products that are more than one for each weight: against a count by torch of `transformers`' own models with random weights."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from helpers.estimates import decode_cost, kv_cache_bytes, step_cost
from helpers.model import LayerShape, ModelShape, UnreadableConfig
from helpers.model.sizing import Products, TokenPasses, with_products
from tests.families import ALTERNATING, family


def differential(**fields):
    return family("diffllama", **fields)


def gemma3n(**fields):
    fields = {"head_dim": 16, "sliding_window": 8, "layer_types": ALTERNATING, "num_kv_shared_layers": 2,
              "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96, "laurel_rank": 4, "intermediate_size": 48,
              "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0], **fields}  # fmt: skip
    return family("gemma3n_text", **fields)


CONFIGS = {
    "differential": differential,
    "differential, all heads": lambda: differential(num_key_value_heads=4),
    "differential, wide heads": lambda: differential(head_dim=32, num_hidden_layers=2),
    "differential, many heads": lambda: differential(num_attention_heads=8, num_key_value_heads=4, hidden_size=128),
    "gemma 3n": gemma3n,
    "gemma 3n, three streams": lambda: gemma3n(altup_num_inputs=3, laurel_rank=8),
    "gemma 3n, wider inputs": lambda: gemma3n(hidden_size_per_layer_input=24, hidden_size=96, num_kv_shared_layers=0),
    "gpt 2": lambda: family("gpt2", n_embd=48, n_head=4, n_layer=3),
    "opt": lambda: family("opt", ffn_dim=80, word_embed_proj_dim=64),
}  # fmt: skip


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]()


def counted(config, cached, batch):
    """Operations that torch counts in a decode step of `transformers`' model, on the CPU with random weights."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    ids = torch.randint(3, 90, (batch, cached + 1))
    with torch.no_grad():
        cache = model(input_ids=ids[:, :cached], use_cache=True).past_key_values
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids[:, cached:], past_key_values=cache, use_cache=True)
    return counter.get_total_flops()


@pytest.mark.parametrize(("cached", "batch"), [(1, 1), (5, 2), (40, 1), (97, 3)])
def test_a_decode_step_costs_what_torch_counts(config, cached, batch):
    assert decode_cost(ModelShape.from_hf(config), cached, batch).flops == counted(config, cached, batch)


@pytest.mark.parametrize("tokens", [1, 7])
def test_a_pass_reads_every_weight_once_and_a_row_of_each_table(config, tokens):
    """Biases are left out; a tied output matrix is read whole."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tables = [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    rows = tokens * sum(table.shape[1] for table in tables)
    rest = {id(p): p for n, p in model.named_parameters() if not n.endswith("bias")}
    for table in tables:
        rest.pop(id(table), None)
    head = model.get_output_embeddings().weight
    rest[id(head)] = head
    expected = rows + sum(p.numel() for p in rest.values())
    assert step_cost(ModelShape.from_hf(config), [tokens], [0], weight_bytes=1).weight_bytes == expected


def test_the_cache_of_differential_attention_is_read_once():
    shape = ModelShape.from_hf(differential())
    assert decode_cost(shape, 5, element_bytes=2).kv_bytes == kv_cache_bytes(
        shape, 1, 5
    ) + 2 * kv_cache_bytes(shape, 1, 1)


LAYER = LayerShape(kv_heads=2, key_dim=8, value_dim=8, num_heads=4, matrices=100, router=10)


def passes(first, second):
    return TokenPasses((), frozenset(), {}, ({0: Products(*first)}, {0: Products(*second)}))


def test_what_the_sizes_explain_adds_nothing():
    assert with_products(LAYER, 0, passes((110, 64), (110, 128)), "x") == LAYER
    assert with_products(LAYER, 0, passes((117, 69), (117, 133)), "x").more_products == 7 + 5


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((110, 64), (110, 129), "layer 0 computes more for each cached token"),
        ((110, 64), (111, 128), "layer 0 computes more for each cached token"),
        ((109, 64), (109, 128), "layer 0 holds matrices that compute no token"),
    ],
)
def test_what_nothing_explains_is_refused(first, second, words):
    with pytest.raises(UnreadableConfig, match=f"model type 'x': .*{words}"):
        with_products(LAYER, 0, passes(first, second), "x")
