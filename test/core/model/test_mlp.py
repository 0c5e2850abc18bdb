import torch

from qwen_vla_ros.model.mlp import Mlp


def test_a_packed_mlp_answers_the_same():
    torch.manual_seed(0)
    mlp, x = Mlp(6, 64, 20), torch.randn(2, 5, 6)
    expected = mlp(x)
    assert expected.shape == (2, 5, 20)
    with torch.inference_mode():
        torch.testing.assert_close(mlp.packed()(x), expected, rtol=1e-5, atol=1e-6)


def test_an_mlp_has_the_names_that_checkpoints_have():
    assert list(Mlp(6, 64, 20).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
