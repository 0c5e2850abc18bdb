"""The prompt becomes token ids, with a run of image places where it says `<image>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from qwen_vla_ros.errors import CheckpointError

IMAGE_PLACE = "<image>"
VISION_START, VISION_END, IMAGE_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"
TURN_START, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
THINK_START, THINK_END = "<think>", "</think>"

MAX_FILE_BYTES = 64 * 2**20
"""The family's whole tokenizer takes 20 MiB as it is published, and 32 as it is made here."""


@dataclass(frozen=True)
class PromptTokens:
    """A tokenised prompt.

    Attributes:
        ids: Token ids; (L,).
        is_image: True at the places of image features; (L,).
    """

    ids: npt.NDArray[np.int64]
    is_image: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ChatTokens:
    """A tokenised question, with its answer or up to where that begins.

    Attributes:
        prompt: All tokens; (L,).
        is_answer: True at the tokens of the answer and of its end; (L,).
    """

    prompt: PromptTokens
    is_answer: npt.NDArray[np.bool_]


class PromptTokenizer:
    """The family's byte-level BPE, whole or trimmed: every UTF-8 text has tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take a tokenizer that knows the family's special tokens.

        Raises:
            ValueError: When it lacks one that a prompt needs.
        """
        self._tokenizer = tokenizer
        # A prompt ends with a human's words. If these spell a special token they are text all
        # the same: the only image places are the ones that this class makes.
        self._tokenizer.encode_special_tokens = True
        self._start = self._id(VISION_START)
        self._end = self._id(VISION_END)
        self.image_id = self._id(IMAGE_PAD)

    @property
    def size(self) -> int:
        """One more than the highest token id."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str, image_tokens: Sequence[int]) -> PromptTokens:
        """Tokenise a prompt.

        View tags such as `<|ego_start|>` are plain text: the family has no tokens for them.

        Args:
            text: The prompt, with one `<image>` for each image, in order.
            image_tokens: How many tokens each image takes.

        Raises:
            ValueError: When the number of image places is not the number of images.
        """
        pieces = text.split(IMAGE_PLACE)
        if len(pieces) != len(image_tokens) + 1:
            raise ValueError(
                f"the prompt has {len(pieces) - 1} {IMAGE_PLACE} for {len(image_tokens)} images"
            )
        ids = self._encode_text(pieces[0])
        for count, piece in zip(image_tokens, pieces[1:], strict=True):
            ids += [self._start, *[self.image_id] * count, self._end, *self._encode_text(piece)]
        array = np.asarray(ids, np.int64)
        return PromptTokens(array, array == self.image_id)

    def encode_chat(
        self, question: str, image_tokens: Sequence[int], answer: str | None = None
    ) -> ChatTokens:
        """Tokenise a question about images in the family's chat format.

        One turn of the user, images first; then one of the assistant, who answers at once: the
        place for its thoughts is there and empty, as in the family's format without thinking.

        Args:
            question: Human words; special tokens in them are text.
            image_tokens: How many tokens each image takes.
            answer: What is to be said, for training. `None` ends where it would begin.
        """
        words = question.strip()
        ids = [self._id(TURN_START)]
        # With no image between them, the role and the words are cut as one text.
        ids += self._encode_text("user\n" if image_tokens else f"user\n{words}")
        for count in image_tokens:
            ids += [self._start, *[self.image_id] * count, self._end]
        ids += self._encode_text(words) if image_tokens else []
        ids += [self._id(TURN_END), *self._encode_text("\n")]
        ids += [self._id(TURN_START), *self._encode_text("assistant\n")]
        ids += [self._id(THINK_START), *self._encode_text("\n\n")]
        ids += [self._id(THINK_END), *self._encode_text("\n\n")]
        said = [] if answer is None else [*self._encode_text(answer), self._id(TURN_END)]
        array = np.asarray([*ids, *said], np.int64)
        return ChatTokens(
            PromptTokens(array, array == self.image_id), np.arange(len(array)) >= len(ids)
        )

    @property
    def stop_ids(self) -> tuple[int, int]:
        """Tokens that end an answer."""
        return self._id(TURN_END), self._id(TEXT_END)

    def decode(self, ids: Sequence[int], *, special: bool = True) -> str:
        """Return the text of token ids; special tokens are left out unless `special`."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=not special)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, which transformers and tokenizers read too."""
        self._tokenizer.encode_special_tokens = False
        self._tokenizer.save(str(path))
        self._tokenizer.encode_special_tokens = True

    def _encode_text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the special token {token} is missing")
        return int(found)


def load_tokenizer(path: Path) -> PromptTokenizer:
    """Read a `tokenizer.json`.

    Raises:
        CheckpointError: When the file is missing, too large, or not a tokenizer of the family.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; a checkpoint needs the tokenizer of its model.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are allowed."
        )
    try:
        return PromptTokenizer(Tokenizer.from_file(str(path)))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise CheckpointError(
            f"{path}: not a tokenizer of the Qwen3.5 family: {error}."
        ) from error
