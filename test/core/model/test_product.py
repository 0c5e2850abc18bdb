import pytest
import torch
from torch.nn import functional

from qwen_vla_ros.model import product as module
from qwen_vla_ros.model.product import product

ACTIVATIONS = {
    "none": lambda x: x,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


@pytest.fixture
def layer():
    """Input, weight and bias of a layer; the input has a batch dimension."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 5, 48), (32, 48), (32,)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_the_layer_and_its_activation(layer, activation, with_bias):
    x, weight, bias = layer
    bias = bias if with_bias else None
    wanted = ACTIVATIONS[activation](functional.linear(x, weight, bias))
    with torch.inference_mode():
        served = product(x, weight, bias, activation)
    torch.testing.assert_close(served, wanted, rtol=1e-5, atol=2e-5)


def test_bfloat16_stays_bfloat16(layer):
    x, weight, bias = (part.bfloat16() for part in layer)
    with torch.inference_mode():
        served = product(x, weight, bias, "silu")
    assert served.dtype == torch.bfloat16
    wanted = functional.silu(functional.linear(*(part.float() for part in (x, weight, bias))))
    torch.testing.assert_close(served.float(), wanted, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("cut", [lambda x: x[:, ::2], lambda x: x[::2]], ids=["columns", "rows"])
def test_weights_that_are_a_part_of_others_give_the_same(layer, cut):
    x, weight, _ = layer
    part = cut(weight)
    seen = x[..., ::2] if part.shape[1] < weight.shape[1] else x
    with torch.inference_mode():
        torch.testing.assert_close(
            product(seen, part), functional.linear(seen, part), rtol=1e-5, atol=2e-5
        )


def test_gradients_pass_where_they_are_recorded(layer):
    x, weight, bias = (part.requires_grad_() for part in layer)
    product(x, weight, bias, "gelu").sum().backward()
    assert all(part.grad is not None and part.grad.any() for part in (x, weight, bias))


def test_a_torch_without_onednn_computes_the_same(layer, monkeypatch):
    with torch.inference_mode():
        wanted = product(*layer, "gelu_tanh")
        monkeypatch.setattr(module, "_onednn_linear", None)
        torch.testing.assert_close(product(*layer, "gelu_tanh"), wanted, rtol=1e-5, atol=2e-5)
