"""The decoder, its batch, the cache contract, weights, generation, and sizes of published models.

Chapters 0 and 1.

Read `cache` first: `Cache` is the contract that chapters 3, 4 and 6 fulfil.
"""

from helpers.model import checkpoint
from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache, ConcatCache, NoCache
from helpers.model.checkpoint import Checkpoint, load
from helpers.model.checkpoint_files import read_tensors, stored_bytes
from helpers.model.config import DecoderConfig, UnsupportedArchitecture
from helpers.model.decoder import MLP, DecoderLayer, DecoderLM, Linear
from helpers.model.generation import Generation, chat_prompt, end_tokens, generate
from helpers.model.layer_shapes import LayerShape
from helpers.model.meta_model import config_from_dict, config_from_file, on_meta
from helpers.model.native_passes.native_passes import NativePasses
from helpers.model.shapes import PUBLISHED, ModelShape, count_params
from helpers.model.sizing.model_ends import ModelEnds
from helpers.model.sizing.refusal import UnreadableConfig
from helpers.model.text.answer_text import AnswerText
from helpers.model.text.detokeniser import Detokeniser
from helpers.model.text.stop_strings import StopStrings
from helpers.model.weights import build

__all__ = [
    "MLP",
    "PUBLISHED",
    "AnswerText",
    "Cache",
    "Checkpoint",
    "ConcatCache",
    "DecoderConfig",
    "DecoderLM",
    "DecoderLayer",
    "Detokeniser",
    "FlatBatch",
    "Generation",
    "LayerShape",
    "Linear",
    "ModelEnds",
    "ModelShape",
    "NativePasses",
    "NoCache",
    "StopStrings",
    "UnreadableConfig",
    "UnsupportedArchitecture",
    "build",
    "chat_prompt",
    "checkpoint",
    "config_from_dict",
    "config_from_file",
    "count_params",
    "end_tokens",
    "generate",
    "load",
    "on_meta",
    "read_tensors",
    "stored_bytes",
]
