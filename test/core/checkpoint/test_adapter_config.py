import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.checkpoint.adapter_config import base_revision, matches, read_adapter_config
from qwen_vla_ros.errors import CheckpointError

SHA = "a" * 64
WRITTEN = json.loads(Path(__file__).with_name("adapter_config_of_peft.json").read_text())
"""What peft writes; a test below lets it write that anew."""


def write(tmp_path, **change):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**WRITTEN, **change}))
    return path


@pytest.mark.slow
def test_peft_writes_what_was_recorded(tmp_path):
    from peft import LoraConfig

    LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"]).save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == WRITTEN


def test_what_peft_writes_is_understood(tmp_path):
    config = read_adapter_config(write(tmp_path), SHA)
    assert (config.rank, config.alpha, config.targets) == (4, 8, ("qkv",))
    assert config.scale_of("decoder.blocks.0.qkv") == 2
    assert not config.is_partial


def test_ranks_and_strengths_of_single_layers(tmp_path):
    patterns = {"rank_pattern": {"blocks.1.qkv": 2}, "alpha_pattern": {"qkv": 6}}
    config = read_adapter_config(write(tmp_path, **patterns), SHA)
    assert (config.rank_of("decoder.blocks.1.qkv"), config.rank_of("decoder.blocks.0.qkv")) == (
        2,
        4,
    )
    assert config.scale_of("decoder.blocks.1.qkv") == 3
    assert config.scale_of("decoder.blocks.0.down") == 2


def test_rank_stabilised_adapters_are_divided_by_the_root(tmp_path):
    config = read_adapter_config(write(tmp_path, use_rslora=True), SHA)
    assert config.scale_of("x") == 8 / math.sqrt(4)


def test_a_name_matches_whole_words_at_the_end():
    assert matches("decoder.blocks.0.qkv", "qkv")
    assert matches("decoder.blocks.0.qkv", "blocks.0.qkv")
    assert matches("qkv", "qkv")
    assert not matches("decoder.blocks.0.in_proj_qkv", "qkv")
    assert not matches("decoder.blocks.0.qkv", "blocks")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; allowed: LORA"),
        ({"peft_type": None}, "peft_type is 'None'; allowed: LORA"),
        ({"bias": "all"}, "bias is 'all'; allowed: none"),
        ({"use_dora": True}, "use_dora is 'True'; only plain LoRA can be merged"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"a_setting_of_tomorrow": {"x": 1}}, "a_setting_of_tomorrow is"),
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "a class to import"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the base"),
        ({"r": 0}, "r is '0'; allowed: a whole number from 1 to 1024"),
        ({"r": 4.0}, "r is '4.0'; allowed: a whole number"),
        ({"r": True}, "r is 'True'"),
        ({"r": 10**9}, "from 1 to 1024"),
        ({"lora_alpha": -1}, "lora_alpha is '-1'; allowed: a number above 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha is 'nan'"),
        ({"lora_alpha": "strong"}, "lora_alpha is 'strong'"),
        ({"rank_pattern": {"qkv": -3}}, "rank_pattern.qkv is '-3'"),
        ({"rank_pattern": {"(a+)+$": 3}}, "is no name of a layer; patterns are not read"),
        ({"alpha_pattern": [1]}, "alpha_pattern: must be numbers by name"),
        ({"target_modules": []}, "target_modules: the names of the adapted layers are needed"),
        ({"target_modules": None}, "target_modules: the names"),
        ({"target_modules": [".*"]}, "target_modules: '.*' is no name of a layer"),
        ({"revision": base_revision("b" * 64)}, r"was trained on other weights \(sha256:bbb"),
    ],
)  # fmt: skip
def test_more_than_plain_lora_is_refused(tmp_path, change, sentence):
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json: .*{sentence}"):
        read_adapter_config(write(tmp_path, **change), SHA)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(change=st.dictionaries(st.sampled_from(sorted(WRITTEN)) | st.text(max_size=5), JSON))
def test_any_settings_are_read_or_refused_and_nothing_else(tmp_path_factory, change):
    path = tmp_path_factory.getbasetemp() / "adapter_config.json"
    path.write_text(json.dumps({**WRITTEN, **change}))
    with suppress(CheckpointError):
        assert read_adapter_config(path, SHA).scale_of("decoder.blocks.0.qkv") > 0


@pytest.mark.parametrize("revision", [None, "main", base_revision(SHA)])
def test_an_adapter_of_these_weights_or_of_unknown_ones_is_taken(tmp_path, revision):
    path = write(tmp_path, revision=revision)
    assert read_adapter_config(path, SHA).rank == 4
    assert read_adapter_config(path, None).rank == 4


def test_settings_that_only_matter_in_training_may_have_any_value(tmp_path):
    path = write(tmp_path, lora_dropout=0.3, task_type="CAUSAL_LM", base_model_name_or_path="x")
    assert read_adapter_config(path, SHA).rank == 4


def test_some_of_the_layers_may_be_left_out(tmp_path):
    assert read_adapter_config(write(tmp_path, layers_to_transform=[0]), SHA).is_partial
    pattern = read_adapter_config(write(tmp_path, target_modules=r".*\.qkv"), SHA)
    assert pattern.targets == ()
