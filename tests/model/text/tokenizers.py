"""Tokenizers for the tests of text: the course's own, and small ones of the other kinds."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers.model import checkpoint

WORDS = ["▁", "▁a", "▁Hello", "b", "é", "▁naïve", "!", "▁▁", "�", "x ", "<0x4", "\n"]
SIZE = 3 + 256 + len(WORDS)


@cache
def default():
    """Return the default model's tokenizer: byte-level BPE."""
    return AutoTokenizer.from_pretrained(checkpoint.locate(), trust_remote_code=False)


@cache
def byte_fallback():
    """Return a tokenizer with Llama 2's decoder: "▁" for spaces, bytes `<0x00>` to `<0xFF>`, one space stripped."""
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *WORDS]
    raw = Tokenizer(models.BPE({word: i for i, word in enumerate(vocab)}, [], byte_fallback=True))
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def word_pieces():
    """Return a tokenizer with BERT's decoder: words are joined by spaces, "##" continues a word."""
    vocab = ["[UNK]", "un", "##believ", "##able", ".", "don", "'", "t", ",", "##é"]
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
    raw.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")


KINDS = {"byte-level": default, "byte fallback": byte_fallback, "word pieces": word_pieces}


def decode(tokenizer, tokens):
    """Return the whole text at once."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def byte_tokens(text):
    """Return the tokens of a text in which each byte is one token, for `byte_fallback`."""
    return [3 + byte for byte in text.encode()]
