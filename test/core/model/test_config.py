from dataclasses import replace

import pytest

from qwen_vla_ros.data_file import read_json, write_json
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.config import NANO, PAPER, PRESETS, DecoderConfig, ModelConfig
from qwen_vla_ros.model.family import plain


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_its_json_file(preset, tmp_path):
    write_json(tmp_path / "c.json", PRESETS[preset])
    found = read_json(tmp_path / "c.json", ModelConfig)
    assert plain(found.backbone) == plain(PRESETS[preset].backbone)
    assert (found.preset, found.decoder) == (preset, PRESETS[preset].decoder)


def test_the_4b_is_the_papers_and_attends_jointly():
    assert PAPER.decoder.attention == "joint"
    assert PAPER.decoder.width // PAPER.decoder.num_heads == 2 * sum(PAPER.decoder.rope_sections)


def test_what_is_ours_continues_chunks_and_the_papers_does_not_say():
    trained = {name for name, config in PRESETS.items() if config.decoder.frozen_prefix}
    assert trained == {"nano", "0.8b", "2b"}
    assert not DecoderConfig(
        num_blocks=1, width=64, inner_size=64, num_heads=1, attention="joint"
    ).frozen_prefix


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_heads": 3}, "multiple of decoder.num_heads"),
        ({"rope_sections": (11, 11, 11)}, "cover half a head"),
    ],
)
def test_dimensions_that_contradict_each_other_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(NANO.decoder, **change)


def test_a_layer_that_the_backbone_lacks_cannot_be_read():
    with pytest.raises(ValueError, match="context_layer must not be above 4"):
        replace(NANO, decoder=replace(NANO.decoder, context_layer=5))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            '"num_blocks": 4',
            '"num_blocks": "4"',
            "num_blocks: '4' does not fit",
        ),
        ('"num_blocks": 4', '"num_blocks": 100000', "100000 must be at most 256"),
        ('"num_blocks": 4', '"num_block": 4', "decoder.num_block: unknown key"),
        ('"prefix"', '"causal"', "Known: joint, prefix"),
        ('"num_blocks": 4', '"num_blocks": NaN', "num_blocks"),
    ],
)
def test_a_wrong_config_is_refused_with_its_place(tmp_path, old, new, sentence):
    path = tmp_path / "c.json"
    write_json(path, NANO)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=sentence):
        read_json(path, ModelConfig)
