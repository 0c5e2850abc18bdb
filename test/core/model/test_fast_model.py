from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.continuation import Committed
from qwen_vla_ros.model.fast_model import BUCKET, FastModel
from qwen_vla_ros.model.flow import draw_noise
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.model import QwenVla

SIZES = [(64, 64)] * 2


@pytest.fixture(scope="module", params=["prefix", "joint"])
def model(tiny, request):
    config = replace(
        tiny.manifest.model,
        decoder=replace(tiny.manifest.model.decoder, attention=request.param),
    )
    whole = QwenVla(config)
    whole.load_state_dict(tiny.model.state_dict())
    return whole.eval()


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(1, 8, DecoderConfig.action_channels, dtype=torch.bool)
    mask[..., :3] = True
    return mask


@pytest.fixture(scope="module")
def ask(tiny):
    def make(words, seed=0):
        rng = np.random.default_rng(seed)
        images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in SIZES]
        return tiny.tokenizer.encode(f"<image> <image> {words}", [4] * 2), tiny.images(
            images, SIZES
        )

    return make


def grids(patches):
    return [tuple(grid) for grid in patches.grids.tolist()]


def serve(fast, sample, mask, committed=None, seed=0):
    tokens, patches = sample
    with torch.inference_mode():
        layout = fast.lay_out(tokens, grids(patches))
        noise = draw_noise(mask, torch.Generator().manual_seed(seed))
        context = fast.read(torch.from_numpy(patches.stills), layout)
        return fast.decide(context, noise, committed).clone()


def plain(model, sample, mask, steps, committed=None, seed=0):
    with torch.inference_mode():
        noise = draw_noise(mask, torch.Generator().manual_seed(seed))
        context = model.backbone(collate([sample]))
        return model.decode(context, noise, mask, model.decoder.schedule(steps), committed)


def settled(mask, rows, method="prefix"):
    actions = torch.linspace(-1, 1, mask.numel()).reshape(mask.shape) * mask
    taken = torch.arange(mask.shape[1])[None] < rows
    return Committed(actions, taken, method)


def test_the_fast_model_answers_as_the_plain_one(model, ask, mask):
    sample = ask("pick up the cube")
    fast = FastModel(model, mask, steps=3)
    torch.testing.assert_close(
        serve(fast, sample, mask), plain(model, sample, mask, 3), rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_a_recorded_call_answers_as_the_plain_one_although_it_is_padded(model, ask, mask, tape):
    fast = FastModel(model, mask, steps=3, record=tape)
    for seed, words in enumerate(["wait", "pick up the red cube", "pick up the blue cube"]):
        sample = ask(words, seed)
        assert len(sample[0].ids) % BUCKET
        for committed in (settled(mask, 0), settled(mask, 3)):
            torch.testing.assert_close(
                serve(fast, sample, mask, committed, seed),
                plain(model, sample, mask, 3, committed, seed),
                rtol=0,
                atol=1e-4,
            )
    assert tape.recordings == 2  # the backbone and the decoder, once each


@pytest.mark.slow
def test_a_much_longer_instruction_is_a_recording_of_its_own(model, ask, mask, tape):
    fast = FastModel(model, mask, steps=2, record=tape)
    short, long = ask("wait"), ask("pick up the red cube and " * 20)
    for sample in (short, long, short):
        serve(fast, sample, mask, settled(mask, 0))
    assert tape.recordings == 4


def test_committed_rows_come_back_as_they_were_given(model, ask, mask, tape):
    committed = settled(mask, 3)
    for record in (None, tape):
        fast = FastModel(model, mask, steps=2, record=record)
        actions = serve(fast, ask("wait"), mask, committed)
        torch.testing.assert_close(actions[:, :3], committed.actions[:, :3], rtol=0, atol=0)
        assert not torch.allclose(actions[:, 3:], committed.actions[:, 3:])


@pytest.mark.slow
def test_guidance_is_not_recorded(model, ask, mask, tape):
    fast = FastModel(model, mask, steps=2, record=tape)
    committed = settled(mask, 3, "guidance")
    sample = ask("wait")
    guided = serve(fast, sample, mask, committed)
    assert tape.recordings == 1  # the backbone
    torch.testing.assert_close(
        guided, plain(model, sample, mask, 2, committed), rtol=1e-3, atol=1e-3
    )
