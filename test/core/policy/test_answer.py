import numpy as np
import pytest
import torch

from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
from qwen_vla_ros.model.backbone import as_family, in_family_words
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.tokenizer import PromptTokenizer
from qwen_vla_ros.policy.answer import MAX_IMAGE_TOKENS, answer, chat_sample, fitting_size

QUESTION = "what do you see?"


def picture(seed=0, shape=(70, 100)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def talker(tiny):
    """A tiny checkpoint whose words change: larger weights than those of a fresh model."""
    generator = torch.Generator().manual_seed(3)
    model = type(tiny.model)(tiny.model.config)
    for name, weight in model.backbone.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            scale = 2 * weight.shape[-1] ** -0.5
            weight.data = scale * torch.randn(weight.shape, generator=generator)
    return type(tiny)(**{**vars(tiny), "model": model.eval()})


def greedy(checkpoint, images, count):
    """The slow way: a whole forward pass for each token, the likeliest one taken."""
    sample = chat_sample(checkpoint, images, QUESTION)
    inputs = collate([(sample.tokens.prompt, sample.patches)])
    qwen, ids = as_family(checkpoint.model.backbone), inputs.token_ids
    words = in_family_words(inputs, checkpoint.model.config.backbone)
    for _ in range(count):
        is_image = torch.nn.functional.pad(
            inputs.is_image.int(), (0, ids.shape[1] - inputs.is_image.shape[1])
        )
        grown = {**words, "input_ids": ids, "mm_token_type_ids": is_image}
        with torch.no_grad():
            logits = qwen(**grown, use_cache=False).logits
        scores = logits[0, -1]
        scores[checkpoint.tokenizer.size :] = -torch.inf
        scores[checkpoint.tokenizer.image_id] = -torch.inf
        ids = torch.cat((ids, scores.argmax().view(1, 1)), dim=1)
    return ids[0, inputs.token_ids.shape[1] :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_answer_is_the_likeliest_words_one_after_the_other(talker, count):
    images = [picture(seed) for seed in range(count)]
    expected = greedy(talker, images, 6)
    assert len(set(expected)) > 2
    said = answer(talker, images, QUESTION, max_new_tokens=6)
    assert said == talker.tokenizer.decode(expected, special=False)


@pytest.mark.slow
def test_an_answer_depends_on_the_picture_and_on_the_question(talker):
    pictures = (np.zeros((96, 96, 3), np.uint8), picture(shape=(96, 96)))
    said = {
        answer(talker, [image], words, max_new_tokens=40)
        for image in pictures
        for words in (QUESTION, "where is the ball?")
    }
    assert len(said) == 4


@pytest.mark.slow
def test_the_same_question_gets_the_same_answer(talker):
    state = torch.random.get_rng_state()
    first, second = (answer(talker, [picture()], QUESTION, max_new_tokens=8) for _ in range(2))
    assert first == second != ""
    assert torch.equal(torch.random.get_rng_state(), state)


def test_asking_leaves_no_trace_in_what_the_robot_sees(talker):
    sample = chat_sample(talker, [picture(5, (64, 96))], "go on")
    inputs = collate([(sample.tokens.prompt, sample.patches)])
    backbone = talker.model.backbone
    with torch.no_grad():
        before = backbone.hidden_states(backbone.lay_out(inputs), inputs.pixel_values)
        answer(talker, [picture(), picture(1)], QUESTION, max_new_tokens=4)
        assert torch.equal(
            backbone.hidden_states(backbone.lay_out(inputs), inputs.pixel_values), before
        )


@pytest.mark.slow
def test_an_answer_ends_where_the_model_ends_it(talker, monkeypatch):
    third = greedy(talker, [picture()], 3)[2]
    monkeypatch.setattr(PromptTokenizer, "stop_ids", (third, third))
    said = answer(talker, [picture()], QUESTION, max_new_tokens=50)
    assert said == talker.tokenizer.decode(greedy(talker, [picture()], 3), special=False)


def test_every_word_has_a_text(talker, monkeypatch):
    def shouting(backbone):
        # The likeliest token of all would be one that the trimmed vocabulary does not have.
        family, loud = as_family(backbone), [talker.tokenizer.size, talker.tokenizer.image_id]
        family.lm_head.register_forward_hook(
            lambda _m, _i, logits: logits.index_fill(-1, torch.tensor(loud), 1e4)
        )
        return family

    monkeypatch.setattr("qwen_vla_ros.policy.answer.as_family", shouting)
    said = answer(talker, [], QUESTION, max_new_tokens=5)
    assert said
    assert "<|image_pad|>" not in said


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_nano_preset_answers_in_any_precision(nano, dtype):
    checkpoint = load_checkpoint(nano, dtype=dtype)
    assert answer(checkpoint, [picture(shape=(480, 640))], QUESTION, max_new_tokens=3)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (224, 224, (224, 224)),
        (480, 640, (576, 448)),  # 14 rows of 18 tokens are 252
        (100, 70, (64, 96)),
        (3, 5, (32, 32)),
        (4000, 32, (32, 4000)),
        (20, 90_000, (8192, 32)),
        (4000, 4000, (512, 512)),
    ],
)
def test_a_picture_keeps_its_shape_in_whole_tokens(height, width, expected):
    image = np.zeros((height, width, 3), np.uint8)
    size = fitting_size(image, 32, MAX_IMAGE_TOKENS)
    assert size == expected
    assert size[0] * size[1] // 32**2 <= MAX_IMAGE_TOKENS


def test_one_token_is_the_least_that_a_picture_gets():
    assert fitting_size(picture(shape=(900, 200)), 32, 1) == (32, 32)
