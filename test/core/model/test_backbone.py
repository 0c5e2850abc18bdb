from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qwen_vla_ros.model.backbone import Backbone, PatchProjection, family_config
from qwen_vla_ros.model.config import PAPER
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.model.inputs import collate


@pytest.fixture(scope="module")
def samples(tiny):
    """Two prompts of different length, with one and two images."""
    rng = np.random.default_rng(0)
    images = ImageProcessor(tiny.manifest.model.backbone.vision)

    def sample(text: str, sizes: list[tuple[int, int]]):
        shown = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
        counts = [w * h // 1024 for w, h in sizes]
        return tiny.tokenizer.encode(text, counts), images(shown, sizes)

    return [sample("<image> go", [(64, 96)]), sample("<image>\n<image> red cube", [(64, 64)] * 2)]


def test_the_backbone_is_the_familys_unchanged(tiny, samples):
    backbone = tiny.model.backbone
    stock = type(backbone.qwen)(family_config(backbone.config)).eval()
    stock.load_state_dict(backbone.qwen.state_dict())
    assert type(stock.model.visual.patch_embed.proj) is nn.Conv3d
    inputs = collate(samples[:1])
    with torch.inference_mode():
        theirs = stock.model(
            input_ids=inputs.token_ids,
            mm_token_type_ids=inputs.is_image.int(),
            pixel_values=inputs.patches,
            image_grid_thw=inputs.grids,
        )
        ours = backbone(inputs)
    torch.testing.assert_close(ours.hidden, theirs.last_hidden_state, rtol=1e-4, atol=1e-5)


def test_the_patch_projection_is_the_convolution():
    conv = nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16))
    projection = PatchProjection(3, 8, (2, 16, 16), (2, 16, 16))
    projection.load_state_dict(conv.state_dict())
    patches = torch.randn(5, 3, 2, 16, 16)
    torch.testing.assert_close(projection(patches), conv(patches), rtol=1e-4, atol=1e-5)


def test_a_batch_answers_as_its_samples_do_alone(tiny, samples):
    with torch.inference_mode():
        together = tiny.model.backbone(collate(samples))
        for row, sample in enumerate(samples):
            alone = tiny.model.backbone(collate([sample]))
            length = len(sample[0].ids)
            assert alone.mask is None
            assert together.mask[row].sum() == length
            torch.testing.assert_close(
                together.hidden[row, :length], alone.hidden[0], rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(together.positions[:, row, :length], alone.positions[:, 0])


def test_image_tokens_have_rows_and_columns_and_text_goes_on_after_them(tiny, samples):
    positions = tiny.model.backbone.positions(collate(samples[:1]))[:, 0]
    is_image = samples[0][0].is_image
    first = int(positions[0, is_image][0])
    height, width = positions[1, is_image] - first, positions[2, is_image] - first
    assert height.tolist() == [0, 0, 1, 1, 2, 2]
    assert width.tolist() == [0, 1] * 3
    after = positions[:, int(np.flatnonzero(is_image)[-1]) + 1]
    assert after.tolist() == [first + 3] * 3


def test_the_layer_that_the_decoder_reads_can_be_chosen(tiny, samples):
    early = Backbone(replace(tiny.manifest.model.backbone, context_layer=2)).eval()
    early.load_state_dict(tiny.model.backbone.state_dict())
    with torch.inference_mode():
        inputs = collate(samples[:1])
        second, last = early(inputs).hidden, tiny.model.backbone(inputs).hidden
    assert second.shape == last.shape
    assert not torch.allclose(second, last)


def test_the_papers_backbone_has_the_published_token_ids():
    config = family_config(PAPER.backbone)
    ids = config.vision_start_token_id, config.vision_end_token_id
    assert (*ids, config.image_token_id, config.video_token_id) == (248053, 248054, 248056, 248057)
    assert config.text_config.layer_types[:4] == ["linear_attention"] * 3 + ["full_attention"]
