"""Day 44 · Our rounding equals PyTorch's, given the same scales, and its observers choose ours."""

import warnings

import numpy as np
import pytest

from llm.quantize.int8 import dequantize, quantize

torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch")


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_same_numbers_as_fake_quantize(symmetric, axis):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((40, 30)) * 3 + 1).astype(np.float32)
    ours = quantize(x, symmetric=symmetric, axis=axis)
    least, top = (-127, 127) if symmetric else (-128, 127)
    scale, zero = torch.tensor(ours.scale.reshape(-1)), torch.tensor(
        ours.zero.reshape(-1).astype(np.int32))
    if axis is None:
        theirs = torch.fake_quantize_per_tensor_affine(torch.tensor(x), scale.item(), zero.item(),
                                                       least, top)
    else:
        theirs = torch.fake_quantize_per_channel_affine(torch.tensor(x), scale, zero, 1 - axis,
                                                        least, top)
    differs = np.abs(dequantize(ours) - theirs.numpy())
    step = np.broadcast_to(ours.scale, x.shape)
    assert (differs <= step * 1.001).all() and (differs < step / 100).mean() > 0.999   # ties


def test_its_observer_of_extremes_chooses_our_range():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import MinMaxObserver
        for mean in (-5, 0, 5):
            x = (np.random.default_rng(mean + 5).standard_normal(500) + mean).astype(np.float32)
            observer = MinMaxObserver(dtype=torch.qint8, qscheme=torch.per_tensor_affine)
            observer(torch.tensor(x))
            scale, zero = observer.calculate_qparams()
            ours = quantize(x, symmetric=False)
            assert ours.scale.item() == pytest.approx(scale.item(), rel=1e-5)
            assert ours.zero.item() == zero.item()
