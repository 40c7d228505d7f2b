"""What clients send: the fields of each call, with their types and ranges.

Sources: OpenAI's API reference for the common fields; vLLM's server for `top_k`, `ignore_eos`, `min_tokens`,
`cache_salt` and `priority`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.serving.errors import BadRequest

_WHOLE = 2**63
Token = Annotated[int, Field(ge=0, lt=_WHOLE)]
Whole = Annotated[int, Field(ge=-_WHOLE, lt=_WHOLE)]
Count = Annotated[int, Field(ge=1, lt=_WHOLE)]
# A list ends at its first error: a body of a megabyte may hold a hundred thousand errors, and one is told.
Tokens = Annotated[list[Token], Field(min_length=1, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, fail_fast=True)]
TokenLists = Annotated[list[Tokens], Field(min_length=1, fail_fast=True)]
Stops = Annotated[list[str], Field(fail_fast=True)]

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
"""Parameters that are not supported, and the values with which they ask for nothing."""


class Strict(BaseModel):
    """Fields of exact types; a field without a value (null) counts as absent, an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    any_null: ClassVar[bool] = False
    """Whether null counts as absent under unknown names, too."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, fields: Any) -> Any:
        """Leave out what asks for nothing, and all unknown fields but the first: one error is told."""
        if not isinstance(fields, dict):
            return fields
        asked = {name: value for name, value in fields.items() if not cls._asks_for_nothing(name, value)}
        unknown = [name for name in asked if name not in cls.model_fields]
        return {
            name: value for name, value in asked.items() if name in cls.model_fields or name in unknown[:1]
        }

    @classmethod
    def _asks_for_nothing(cls, name: str, value: Any) -> bool:
        """Return whether a field may be left out without a change of the answer."""
        if value is None:
            return cls.any_null or name in NEUTRAL or name in _KNOWN
        # 0.0 is 0 here, but False is not.
        truth = isinstance(value, bool)
        return any(value == other and truth == isinstance(other, bool) for other in NEUTRAL.get(name, ()))


class StreamOptions(Strict):
    """Say what a stream tells beside the text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    """Tell the usage so far in every event."""


class Body(Strict):
    """The fields that completions and chats share."""

    model: str | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, lt=_WHOLE)
    seed: Whole | None = None
    n: Count = 1
    stop: str | Stops = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    cache_salt: str | None = Field(None, min_length=1)
    priority: Whole = 0
    ignore_eos: bool = False
    min_tokens: int = Field(0, ge=0, lt=_WHOLE)


class CompletionBody(Body):
    """The body of `/v1/completions`."""

    prompt: str | Tokens | Texts | TokenLists
    echo: bool = False
    logprobs: int | None = Field(None, ge=0)


class Part(Strict):
    """One part of a message."""

    any_null = True
    type: Literal["text"]
    text: str


class Message(Strict):
    """One message of a chat. Clients send answers back with nulls: `refusal`, `tool_calls`, `audio`."""

    any_null = True
    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[Part], Field(fail_fast=True)]

    @property
    def text(self) -> str:
        """Return the message's text, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class ChatBody(Body):
    """The body of `/v1/chat/completions`."""

    messages: Messages
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0)


class TokenizeBody(Strict):
    """The body of `/tokenize`: a prompt, or a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool = True


Kind = TypeVar("Kind", bound=Strict)


def parsed(kind: type[Kind], raw: bytes) -> Kind:
    """Return a body from its JSON. Raises BadRequest, with the parameter's name, for what is no such body."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        # Where a value may be of several kinds, each kind has an error: the deepest says the most.
        found = error.errors(include_url=False, include_input=False)
        first = max(found, key=lambda entry: len(entry["loc"]))
    name = _name_of(first["loc"])
    if first["type"] == "json_invalid":
        raise BadRequest(f"the body is no JSON: {first['ctx']['error']}", code="invalid_json")
    if first["type"] == "extra_forbidden":
        raise BadRequest(f"the parameter {name!r} is not supported", name, "unsupported_parameter")
    raise BadRequest(f"{name or 'the body'}: {first['msg']}", name, "invalid_value")


def _name_of(place: tuple[int | str, ...]) -> str | None:
    """Return a parameter's name, `messages[0].role`, from pydantic's path to the parameter.

    The path also names the kinds of a value that were tried; those are no part of the name.
    """
    name = ""
    for step in place:
        if isinstance(step, int):
            name += f"[{step}]"
        elif step.isidentifier() and (not name or step in _KNOWN or step not in _KINDS):
            name += f".{step}" if name else step
    return name[:80] or None


_KINDS = {"str", "int", "float", "bool", "list", "dict"}
_KNOWN = {
    name
    for kind in (CompletionBody, ChatBody, TokenizeBody, Message, Part, StreamOptions)
    for name in kind.model_fields
}
