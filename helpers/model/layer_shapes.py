"""What one decoder layer keeps of a text, and the weights that each token meets there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerShape:
    """One layer: its cache and its weights, in elements unless said otherwise. Zeros mean: none."""

    kv_heads: int = 0
    """Heads with cached keys and values of their own; 1 for a latent that all heads share."""
    key_dim: int = 0
    """Elements of a head's cached key; of a latent: the compressed key and value together."""
    value_dim: int = 0
    """Elements of a head's cached value; of a latent: the key's rotated part."""
    window: int | None = None
    """Tokens that a query sees at most, the query's own included; None for all."""
    shared: bool = False
    """Whether the layer reads the cache of an earlier layer and keeps none (Gemma 3n and 4)."""
    latent: bool = False
    """Whether the layer caches a compressed latent (MLA, arXiv:2405.04434) instead of keys and values."""
    index_dim: int = 0
    """Elements of the key by which a sparse-attention layer chooses the tokens that it reads (DeepSeek-V3.2).
    """
    index_heads: int = 0
    """Heads of the queries that choose."""
    index_topk: int | None = None
    """Tokens that a sparse-attention layer reads at most for each query."""
    conv_state: int = 0
    """Elements of a state of fixed size in the model's own type: the last inputs of a short convolution."""
    recurrent_state: int = 0
    """Elements of the state of linear attention or of a state space, of `recurrent_bytes` each."""
    recurrent_bytes: int = 4
    """Bytes of one element of the recurrent state; `transformers` keeps it in fp32."""
    num_heads: int = 0
    """Query heads."""
    attentions: int = 1
    """Times that attention over the cache is computed: 2 in differential attention (arXiv:2410.05258)."""
    matrices: int = 0
    """Elements of the linear layers that every token meets: projections, MLP, shared experts."""
    router: int = 0
    """Elements of the matrix that chooses experts; quantised checkpoints leave this matrix in 16 bits."""
    vectors: int = 0
    """Other weights: norms, short convolutions, the constants of a state space."""
    biases: int = 0
    """Biases, those of all experts included."""
    expert: int = 0
    """Elements of one expert."""
    num_experts: int = 0
    """Experts held."""
    experts_per_token: int = 0
    """Experts that compute a token."""
    more_products: int = 0
    """Multiply-adds of a token beyond one for each weight: a matrix used twice, streams mixed (Gemma 3n)."""

    def cached_tokens(self, seq_len: int) -> int:
        """Return how many tokens of a text the cache that the layer reads holds: all, or one less than the
        window.

        The next query sees the window's other tokens, and itself. Engines that keep whole pages hold up to
        one page more.
        """
        if not self.kv_heads:
            return 0
        return seq_len if self.window is None else min(seq_len, self.window - 1)

    @property
    def token_elements(self) -> int:
        """Return the elements that one cached token takes; 0 for a layer that reads another layer's."""
        return 0 if self.shared else self.kv_heads * (self.key_dim + self.value_dim) + self.index_dim

    def state_bytes(self, element_bytes: float) -> float:
        """Return the bytes of the state of fixed size of one sequence, beside a model of `element_bytes`."""
        return self.conv_state * element_bytes + self.recurrent_state * self.recurrent_bytes

    @property
    def held(self) -> int:
        """Return the weights that this layer holds in memory."""
        return self.linear + self.router + self.vectors + self.biases

    @property
    def linear(self) -> int:
        """Return the elements of the layer's linear layers, all experts counted: what a quantised checkpoint
        packs.
        """
        return self.matrices + self.num_experts * self.expert

    @property
    def active(self) -> int:
        """Return the elements of the matrices that one token is multiplied by."""
        return self.matrices + self.router + self.experts_per_token * self.expert

    def distinct_experts(self, tokens: int) -> float:
        """Return how many experts `tokens` tokens meet together, on average, when the router favours none.

        A token leaves out a given expert with probability `1 - k / E`; `tokens` tokens all do with that to
        their power.
        """
        if not self.num_experts:
            return 0
        return self.num_experts * (1.0 - (1 - self.experts_per_token / self.num_experts) ** tokens)
