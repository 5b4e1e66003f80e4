"""The task the stand-ins do: which intent a customer's message has, and which order it is about."""

import re
from typing import Final

# First match wins.
KEYWORDS: Final = {
    "cancel_order": ("cancel", "don't want it any more"),
    "refund": ("refund", "money back", "charged twice", "reimburse"),
    "return_item": ("return", "send it back", "wrong size", "exchange"),
    "damaged_item": ("broken", "damaged", "cracked", "does not work", "doesn't work"),
    "change_address": ("address", "moved", "moving"),
    "invoice": ("invoice", "receipt", "vat"),
    "account": ("password", "log in", "login", "account"),
    "order_status": ("where is", "track", "arrive", "deliver", "shipped", "parcel", "package", "order"),
}
OTHER: Final = "other"
INTENTS: Final = (*KEYWORDS, OTHER)

_ORDER = re.compile(r"\b(?:[A-Z]{1,3}-)?\d{4,10}\b")


def intent(text: str) -> str:
    lowered = text.lower()
    for name, words in KEYWORDS.items():
        if any(word in lowered for word in words):
            return name
    return OTHER


def orders(text: str) -> list[str]:
    """Return the order numbers named, each once: four digits and more, maybe with a prefix as in AC-10423."""
    return list(dict.fromkeys(_ORDER.findall(text)))


def classify(text: str) -> dict[str, str | None]:
    found = orders(text)
    return {"intent": intent(text), "order_id": found[0] if found else None}


def slip(name: str) -> str:
    """Return the wrong intent that a model takes this one for when it slips: its neighbour."""
    return INTENTS[(INTENTS.index(name) + 1) % len(INTENTS)]


def prose(answer: dict[str, str | None]) -> str:
    """What a general model says when no prompt told it to answer JSON."""
    about = str(answer["intent"]).replace("_", " ")
    order = f" for order {answer['order_id']}" if answer["order_id"] else ""
    return (
        f"Thanks for reaching out! It sounds like you are writing about: {about}{order}. I'd be happy to help. "
        "Could you share a few more details, such as the email address on the order, so that I can look into it?"
    )
