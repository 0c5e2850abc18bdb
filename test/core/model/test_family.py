import pytest

from qwen_vla_ros.model.config import NANO, PAPER, PRESETS
from qwen_vla_ros.model.family import plain, read_family_config


def changed(place, value, config=NANO.backbone):
    """What a file says with another value at a place; `None` leaves it out."""
    values = plain(config)
    section = values
    *path, key = place.split(".")
    for part in path:
        section = section[part]
    if value is None:
        del section[key]
    else:
        section[key] = value
    return values


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_file_of_the_family(preset):
    config = PRESETS[preset].backbone
    assert plain(read_family_config(plain(config))) == plain(config)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("text_config.hidden_size", 0, r"hidden_size is 0; allowed: whole .* from 1 to 1000000"),
        ("text_config.hidden_size", "wide", "hidden_size"),
        ("text_config.hidden_size", 256.5, "hidden_size"),
        ("text_config.num_hidden_layers", 10**6, "num_hidden_layers is 1000000; .* 1 to 256"),
        ("text_config.num_hidden_layers", True, "num_hidden_layers"),
        ("text_config.vocab_size", None, "text_config.vocab_size is missing"),
        ("text_config.hidden_act", "relu", "hidden_act is 'relu'; allowed: 'silu'"),
        ("text_config.attention_bias", True, "attention_bias is True; allowed: False"),
        ("text_config.rms_norm_eps", float("nan"), "rms_norm_eps"),
        ("text_config.rope_parameters.rope_theta", -1.0, "rope_theta is -1.0; allowed: above 0"),
        ("text_config.rope_parameters.mrope_section", [8, 8, 8], "rotated half of a head"),
        ("text_config.rope_parameters.mrope_interleaved", False, "mrope_interleaved is False"),
        ("text_config.num_key_value_heads", 3, "multiples of their key heads"),
        ("text_config.layer_types", ["magic"] * 4, "layer_types|is no config of the family"),
        ("vision_config.depth", None, "vision_config.depth is missing"),
        ("vision_config.num_position_embeddings", 200, "square of a whole number"),
        ("vision_config.out_hidden_size", 64, "out_hidden_size must be text_config.hidden_size"),
        ("vision_config.num_heads", 5, "multiple of 4"),
        ("vision_config", [], "vision_config.hidden_size is missing"),
        ("tie_word_embeddings", False, "tie_word_embeddings is False; allowed: True"),
        ("image_token_id", 2304, "image_token_id must be below"),
        ("model_type", "qwen2_vl", "model_type is 'qwen2_vl'; only 'qwen3_5'"),
        ("auto_map", {"AutoModel": "modeling.Evil"}, "auto_map: asks for code of its own"),
    ],
)
def test_what_we_do_not_compute_is_refused_with_its_place(place, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_family_config(changed(place, value))


def test_a_misspelt_dimension_is_missing_and_what_is_there_instead_is_told():
    values = changed("vision_config.depth", None)
    values["vision_config"]["deptth"] = 3
    with pytest.raises(ValueError, match=r"vision_config\.depth is missing; 'deptth' is there"):
        read_family_config(values)


def test_a_config_written_by_an_older_transformers_is_understood():
    content = plain(PAPER.backbone)
    text, vision = content["text_config"], content["vision_config"]
    del text["layer_types"], text["tie_word_embeddings"], vision["rope_parameters"]
    text |= {"full_attention_interval": 4, "mtp_num_hidden_layers": 1, "attn_output_gate": True}
    vision |= {"model_type": "qwen3_5", "deepstack_visual_indexes": []}
    found = read_family_config(content)
    assert found.text_config.layer_types == PAPER.backbone.text_config.layer_types
    assert found.vision_config.rope_parameters == PAPER.backbone.vision_config.rope_parameters
