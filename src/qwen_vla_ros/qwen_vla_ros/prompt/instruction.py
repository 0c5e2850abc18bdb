"""What a human may ask, as the one line of text that goes into the prompt."""

from __future__ import annotations

import unicodedata

from qwen_vla_ros.errors import InstructionError

MAX_BYTES = 2048

# View tags (`<|ego_start|>`), image places (`<image>`) and every special token of the tokenizer
# are made of these. They are refused rather than removed: a human who types them should know that
# the robot never saw them; and without them no text can pose as an image or another speaker.
_MARKERS = frozenset("<>|")


def clean_instruction(text: str) -> str:
    """Return the instruction in normal form C, on one line, without invisible characters.

    Line breaks, tabs and runs of spaces become one space. Control characters, direction marks,
    zero-width characters, private characters and halves of surrogate pairs are removed. Cleaning
    twice changes nothing.

    Raises:
        InstructionError: Nothing is left, it is longer than 2 KiB of UTF-8, it holds one of
            `<`, `>` and `|`, or it is no text at all.
    """
    if not isinstance(text, str):
        raise InstructionError(f"an instruction is a text, not {type(text).__name__}.")
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _too_long()
    spaced = "".join(" " if character.isspace() else character for character in text)
    visible = "".join(character for character in spaced if not _is_invisible(character))
    cleaned = " ".join(unicodedata.normalize("NFC", visible).split())
    if len(cleaned.encode("utf-8")) > MAX_BYTES:  # composing can also make a text longer
        raise _too_long()
    if not any(character.isalnum() for character in cleaned):
        raise InstructionError("the instruction is empty: say what the robot shall do.")
    for marker in sorted(_MARKERS.intersection(cleaned)):
        raise InstructionError(
            f"an instruction cannot hold '{marker}': the prompt marks its images with it."
        )
    return cleaned


def _is_invisible(character: str) -> bool:
    # C* are control, format (bidi, zero-width, tags), surrogate, private and unassigned; variation
    # selectors are marks to Unicode, yet show nothing and can carry a hidden message.
    return (
        unicodedata.category(character).startswith("C")
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _too_long() -> InstructionError:
    return InstructionError(f"the instruction is longer than {MAX_BYTES} bytes: say it shorter.")
