"""How well the backbone says what it is to say: the language part of the training objective."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from qwen_vla_ros.model.inputs import Inputs
from qwen_vla_ros.model.model import QwenVla


def language_loss(model: QwenVla, inputs: Inputs, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of the tokens that are to be said, as a number.

    Args:
        model: Its vision encoder and its language model take part; the decoder does not.
        inputs: Images and whole texts, answers included.
        targets: The token that belongs at each place; (B, L). Each is predicted from the tokens
            before its place, so that `inputs.token_ids` are the usual targets.
        mask: True at the places that count; (B, L). The first place has nothing before it.

    Raises:
        ValueError: When no place counts.
    """
    logits = answer_logits(model, inputs, mask)
    return functional.cross_entropy(logits.float(), targets[:, 1:][mask[:, 1:]])


def answer_logits(model: QwenVla, inputs: Inputs, mask: Tensor) -> Tensor:
    """Return what is predicted at the places that `mask` (B, L) is true at; (N, vocabulary).

    Raises:
        ValueError: When there is none.
    """
    if not bool(mask[:, 1:].any()):
        raise ValueError("no place of the text counts")
    backbone = model.backbone
    hidden = backbone.hidden_states(backbone.lay_out(inputs), inputs.pixel_values)
    # Only at these places: a whole text in a vocabulary of 248,320 would take gigabytes.
    return backbone.logits(hidden[:, :-1][mask[:, 1:]])
