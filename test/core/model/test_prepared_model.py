from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.model import PreparedModel, QwenVla
from qwen_vla_ros.model.sampling import Committed, decode, draw_noise, step_times

SIZES, BUCKET = [(64, 64)] * 2, 64


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


def serve(model, prepared, asked, mask, committed=None, seed=0):
    inputs = collate([asked], BUCKET if prepared.is_recorded else None)
    with torch.no_grad():
        layout = model.backbone.lay_out(inputs)
        noise = draw_noise(mask, torch.Generator().manual_seed(seed))
        context = prepared.encode(layout, inputs.pixel_values)
        return prepared.denoise(context, noise, committed).clone()


def plain(model, asked, mask, steps, committed=None, seed=0):
    """Call by call, without padding."""
    with torch.no_grad():
        noise = draw_noise(mask, torch.Generator().manual_seed(seed))
        inputs = collate([asked])
        context = model.backbone(model.backbone.lay_out(inputs), inputs.pixel_values)
        schedule = model.decoder.schedule(step_times(steps))
        return decode(model.decoder, context, noise, mask, schedule, committed)


def settled(mask, rows, method="prefix"):
    actions = torch.linspace(-1, 1, mask.numel()).reshape(mask.shape) * mask
    taken = torch.arange(mask.shape[1])[None] < rows
    return Committed(actions, taken, method)


def test_a_prepared_model_answers_as_it_does_call_by_call(model, ask, mask):
    asked = ask("pick up the cube")
    prepared = PreparedModel(model, mask, steps=3)
    torch.testing.assert_close(
        serve(model, prepared, asked, mask), plain(model, asked, mask, 3), rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_a_recorded_call_answers_the_same_although_it_is_padded(model, ask, mask, tape):
    prepared = PreparedModel(model, mask, steps=3, record=tape)
    for seed, words in enumerate(["wait", "pick up the red cube", "pick up the blue cube"]):
        asked = ask(words, seed)
        assert len(asked[0].ids) % BUCKET
        for committed in (settled(mask, 0), settled(mask, 3)):
            torch.testing.assert_close(
                serve(model, prepared, asked, mask, committed, seed),
                plain(model, asked, mask, 3, committed, seed),
                rtol=0,
                atol=1e-4,
            )
    assert tape.recordings == 2  # the backbone and the decoder, once each


@pytest.mark.slow
def test_a_much_longer_instruction_is_a_recording_of_its_own(model, ask, mask, tape):
    prepared = PreparedModel(model, mask, steps=2, record=tape)
    short, long = ask("wait"), ask("pick up the red cube and " * 20)
    for asked in (short, long, short):
        serve(model, prepared, asked, mask, settled(mask, 0))
    assert tape.recordings == 4


def test_committed_rows_come_back_as_they_were_given(model, ask, mask, tape):
    committed = settled(mask, 3)
    for record in (None, tape):
        prepared = PreparedModel(model, mask, steps=2, record=record)
        actions = serve(model, prepared, ask("wait"), mask, committed)
        torch.testing.assert_close(actions[:, :3], committed.actions[:, :3], rtol=0, atol=0)
        assert not torch.allclose(actions[:, 3:], committed.actions[:, 3:])


@pytest.mark.slow
def test_guidance_is_not_recorded(model, ask, mask, tape):
    prepared = PreparedModel(model, mask, steps=2, record=tape)
    committed = settled(mask, 3, "guidance")
    asked = ask("wait")
    guided = serve(model, prepared, asked, mask, committed)
    assert tape.recordings == 1  # the backbone
    torch.testing.assert_close(
        guided, plain(model, asked, mask, 2, committed), rtol=1e-3, atol=1e-3
    )
