"""The stand-ins' tokenizer: small, exact, and easy to recompute by hand.

A token is up to six word characters or one other visible character, each with the white space character before it;
white space that is left is one token a run. Splitting loses nothing: the pieces join to the text again. English
comes out at about 4.4 characters a token, JSON at about 3.

A message costs four tokens besides its text (start, role, separator, end), an image 85, and the whole prompt three
more for the start of the answer. Tools and a response schema count as their compact JSON, ahead of the messages.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

_TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s+")

IMAGE_TOKENS = 85
BLOCK = 128  # the prompt cache counts in steps of this


@lru_cache(maxsize=512)
def pieces(text: str) -> tuple[str, ...]:
    """Split text into tokens."""
    return tuple(_TOKEN.findall(text))


def count(text: str) -> int:
    return len(pieces(text))


def message_pieces(message: Mapping[str, Any]) -> list[str]:
    found = ["<start>", str(message.get("role")), "<sep>"]
    content = message.get("content")
    if isinstance(content, str):
        found += pieces(content)
    elif isinstance(content, list):
        for part in content:
            found += pieces(part["text"]) if part.get("type") == "text" else ["<image>"] * IMAGE_TOKENS
    for extra in ("name", "refusal", "tool_call_id"):
        if isinstance(message.get(extra), str):
            found += pieces(message[extra])
    if message.get("tool_calls"):
        found += pieces(orjson.dumps(message["tool_calls"]).decode())
    found.append("<end>")
    return found


def prompt_pieces(body: Mapping[str, Any]) -> list[str]:
    """Everything of a chat request that the model reads, in order: what a prompt cache compares."""
    found: list[str] = []
    for extra in ("tools", "response_format"):
        if body.get(extra):
            found += pieces(orjson.dumps(body[extra]).decode())
    for message in body["messages"]:
        found += message_pieces(message)
    return [*found, "<start>", "assistant", "<sep>"]
