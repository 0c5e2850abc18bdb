import numpy as np
import pytest
import torch

from qwen_vla_ros.model.backbone import as_family, in_family_words
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.policy.answer import chat_sample
from qwen_vla_ros.training.language_loss import language_loss


def batch(tiny, replies, *, images=1):
    """Questions about pictures with their replies; the targets are the tokens of the replies."""
    pictures = [
        np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        for seed in range(images)
    ]
    samples = [chat_sample(tiny, pictures, "what is it?", reply) for reply in replies]
    inputs = collate([(sample.tokens.prompt, sample.patches) for sample in samples])
    mask = torch.zeros_like(inputs.token_ids, dtype=torch.bool)
    for row, sample in enumerate(samples):
        mask[row, : len(sample.tokens.is_answer)] = torch.from_numpy(sample.tokens.is_answer)
    return inputs, mask


@pytest.mark.parametrize("images", [0, 2])
def test_the_loss_is_the_one_that_transformers_computes(tiny, images):
    inputs, mask = batch(tiny, ["a red cube"], images=images)
    labels = inputs.token_ids.masked_fill(~mask, -100)
    backbone = tiny.model.backbone
    with torch.no_grad():
        words = in_family_words(inputs, backbone.config)
        theirs = as_family(backbone)(**words, labels=labels).loss
        ours = language_loss(tiny.model, inputs, inputs.token_ids, mask)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_gradients_reach_vision_and_language_and_nothing_of_the_decoder(tiny):
    inputs, mask = batch(tiny, ["a red cube"])
    tiny.model.zero_grad()
    language_loss(tiny.model, inputs, inputs.token_ids, mask).backward()
    reached = {
        name for name, x in tiny.model.named_parameters()
        if x.grad is not None and x.grad.abs().max() > 0
    }  # fmt: skip
    tiny.model.zero_grad()
    vision = ("visual.patch_embed", "visual.blocks.0", "visual.merger")
    language = ("language_model.layers.0", "language_model.layers.3.self_attn", "embed_tokens")
    for part in vision + language:
        assert any(part in name for name in reached), part
    assert not any(name.startswith("decoder.") for name in reached)


@pytest.mark.slow
def test_a_step_downhill_makes_the_reply_likelier(tiny):
    inputs, mask = batch(tiny, ["a red cube"])
    model = type(tiny.model)(tiny.model.config)
    optimizer = torch.optim.SGD(model.backbone.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        loss = language_loss(model, inputs, inputs.token_ids, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


def test_padding_and_words_before_the_reply_do_not_count(tiny):
    replies = ["a red cube on the table", "no"]
    inputs, mask = batch(tiny, replies)
    alone = [batch(tiny, [reply]) for reply in replies]
    with torch.no_grad():
        together = language_loss(tiny.model, inputs, inputs.token_ids, mask)
        single = [language_loss(tiny.model, x, x.token_ids, m) for x, m in alone]
        noise = torch.where(mask, inputs.token_ids, 7)
        assert language_loss(tiny.model, inputs, noise, mask) == together
    counts = [int(m.sum()) for _, m in alone]
    expected = sum(float(a) * n for a, n in zip(single, counts, strict=True)) / sum(counts)
    assert float(together) == pytest.approx(expected, abs=1e-4)


def test_a_text_in_which_nothing_counts_is_an_error(tiny):
    inputs, mask = batch(tiny, ["yes"])
    with pytest.raises(ValueError, match="no place of the text counts"):
        language_loss(tiny.model, inputs, inputs.token_ids, torch.zeros_like(mask))
