"""What a config's model is asked on the meta device, and how a config that has no size is refused. Chapters 1 and 2."""

from helpers.model.sizing.counted_products import OUTSIDE, ProductCounter, Products, counted_products
from helpers.model.sizing.mlp_width import MlpWidth, mlp_width
from helpers.model.sizing.model_ends import ModelEnds
from helpers.model.sizing.products import with_products
from helpers.model.sizing.refusal import UnreadableConfig, brief, refusal, refusing
from helpers.model.sizing.token_passes import TokenPasses, pass_tokens

__all__ = [
    "OUTSIDE",
    "MlpWidth",
    "ModelEnds",
    "ProductCounter",
    "Products",
    "TokenPasses",
    "UnreadableConfig",
    "brief",
    "counted_products",
    "mlp_width",
    "pass_tokens",
    "refusal",
    "refusing",
    "with_products",
]
