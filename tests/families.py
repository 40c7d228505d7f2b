"""Model families at toy size, as `transformers` makes them: every kind of layer, cache and weight that the course sizes."""

from typing import Any

from transformers import AutoConfig

SIZES: dict[str, Any] = dict(
    vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
EXPERTS = dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16)
LATENT = dict(
    num_key_value_heads=4,
    kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=16, n_group=2, topk_group=1, n_shared_experts=1,
)  # fmt: skip
DELTA = dict(
    head_dim=16,
    linear_num_value_heads=4,
    linear_num_key_heads=2,
    linear_key_head_dim=16,
    linear_value_head_dim=16,
)
TOWER = dict(
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
)
QWEN_TOWER = dict(
    depth=2, hidden_size=32, intermediate_size=32, num_heads=2, out_hidden_size=64, patch_size=14
)
MROPE = dict(rope_type="default", mrope_section=[2, 3, 3], rope_theta=1e4)
ALTERNATING = ["sliding_attention", "full_attention"] * 2


def family(model_type: str, **fields: Any) -> Any:
    """Return the config of a family at toy size."""
    return AutoConfig.for_model(model_type, **{**SIZES, **fields})


def seeing(kind: str, tower: dict[str, Any], **text: Any) -> Any:
    """Return the config of a model with a vision tower."""
    return AutoConfig.for_model(kind, text_config={**SIZES, **text}, vision_config=tower)


FAMILIES: dict[str, Any] = {
    "llama": lambda: family("llama"),
    "mistral, window": lambda: family("mistral", sliding_window=8),
    "mixtral": lambda: family("mixtral", num_local_experts=4),
    "qwen2": lambda: family("qwen2"),
    "qwen2, window": lambda: family("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=2),
    "qwen2-moe": lambda: family("qwen2_moe", **EXPERTS, shared_expert_intermediate_size=16),
    "qwen3": lambda: family("qwen3", head_dim=16, tie_word_embeddings=True),
    "qwen3-moe": lambda: family("qwen3_moe", head_dim=16, **EXPERTS),
    "qwen3-next": lambda: family("qwen3_next", **DELTA, **EXPERTS, shared_expert_intermediate_size=16),
    "qwen3.5": lambda: family("qwen3_5_text", **DELTA),
    "qwen3.5-moe": lambda: family("qwen3_5_moe_text", **DELTA, **EXPERTS, shared_expert_intermediate_size=16),
    "deepseek-v2": lambda: family("deepseek_v2", **LATENT, first_k_dense_replace=1),
    "deepseek-v3": lambda: family("deepseek_v3", **LATENT, first_k_dense_replace=1),
    "deepseek-v3.2": lambda: family("deepseek_v32", **LATENT, index_topk=8, index_n_heads=2, index_head_dim=16),
    "gemma2": lambda: family("gemma2", head_dim=16, sliding_window=8, layer_types=ALTERNATING),
    "gemma3": lambda: family("gemma3_text", head_dim=16, sliding_window=8, layer_types=ALTERNATING),
    "gemma4, shared": lambda: family("gemma4_text", head_dim=16, global_head_dim=32, sliding_window=8, num_kv_shared_layers=2,
                                     layer_types=ALTERNATING, hidden_size_per_layer_input=8, vocab_size_per_layer_input=96),
    "gpt-oss": lambda: family("gpt_oss", head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
    "jamba": lambda: family("jamba", attn_layer_period=4, attn_layer_offset=1, num_experts=2, mamba_d_state=4, mamba_dt_rank=4),
    "nemotron-h": lambda: family("nemotron_h", layers_block_type=["mamba", "moe", "attention", "mlp"], head_dim=16,
                                 mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8, n_groups=2, n_routed_experts=4,
                                 num_experts_per_tok=2, moe_intermediate_size=16, moe_shared_expert_intermediate_size=16),
    "glm4.5": lambda: family("glm4_moe", head_dim=16, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
                             n_group=2, topk_group=1, first_k_dense_replace=1),
    "glm4.7-flash": lambda: family("glm4_moe_lite", **LATENT),
    "glm5": lambda: family("glm_moe_dsa", **LATENT, index_topk=8, index_n_heads=2, index_head_dim=16),
    "mimo-v2": lambda: family("mimo_v2_flash", head_dim=16, v_head_dim=8, swa_num_key_value_heads=4, sliding_window=8,
                              n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, n_group=1, topk_group=1),
    "llava": lambda: seeing("llava", {"model_type": "clip_vision_model", **TOWER}, model_type="llama"),
    "qwen2-vl": lambda: seeing("qwen2_vl", {**QWEN_TOWER, "embed_dim": 32}, rope_scaling=MROPE),
    "qwen3-vl": lambda: seeing("qwen3_vl", {**QWEN_TOWER, "deepstack_visual_indexes": [0]}, head_dim=16,
                               rope_scaling={**MROPE, "mrope_interleaved": True}),
    "kimi-k2.5": lambda: seeing("kimi_k25", {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
                                             "num_attention_heads": 2}, model_type="deepseek_v3", **LATENT),
}  # fmt: skip
