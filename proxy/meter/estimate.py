"""Token counts where an upstream reported none: answers that were cut, timed out or cancelled after a 2xx."""

from typing import TYPE_CHECKING

from proxy.meter.usage import Usage

if TYPE_CHECKING:
    from proxy.meter.baseline import Learned

CHARACTERS_PER_TOKEN = 4  # of English text in the usual vocabularies, until a model has shown its own ratio


def tokens(characters: int, seen_tokens: int = 0, seen_characters: int = 0) -> int:
    """Tokens of so many characters, by the ratio seen or else four a token; some text is some token.

    By a ratio that was seen to the nearest: rounding up would add half a token to each answer, a percent or two.
    """
    if characters <= 0:
        return 0
    if not (seen_tokens and seen_characters):
        return -(-characters // CHARACTERS_PER_TOKEN)
    return max(1, (2 * characters * seen_tokens + seen_characters) // (2 * seen_characters))


def usage(learned: "Learned", model: str, prompt_chars: int, output_chars: int) -> Usage:
    """Estimate an attempt's usage from the characters sent and received. Book it with the source `estimated`.

    Nothing is taken as cached, and nothing as reasoning that was not delivered: what is not known is not guessed.
    """
    ratios = learned.of(model)
    return Usage(input=ratios.expected_prompt(prompt_chars), output=ratios.expected_output(output_chars))
