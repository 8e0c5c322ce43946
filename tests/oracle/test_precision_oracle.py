"""Day 37 · bfloat16 and float16 against PyTorch, and the scaler's course against GradScaler's."""

import numpy as np
import pytest

from llm.train.halves import BF16, FP16, decode, rounded
from llm.train.precision import Scaler

torch = pytest.importorskip("torch", reason="pip install torch to compare with it")


@pytest.mark.parametrize(("format", "dtype"), [(BF16, torch.bfloat16), (FP16, torch.float16)])
def test_rounding_equals_torchs_on_random_bits(format, dtype):
    bits = np.random.default_rng(37).integers(0, 2**32, 200_000, dtype=np.uint32)
    x = bits.view(np.float32)
    theirs = torch.from_numpy(x.copy()).to(dtype).to(torch.float32).numpy()
    ours = rounded(x, format)
    assert ((ours == theirs) | np.isnan(ours) & np.isnan(theirs)).all()


@pytest.mark.parametrize(("format", "dtype"), [(BF16, torch.bfloat16), (FP16, torch.float16)])
def test_the_limits_are_torchs(format, dtype):
    info = torch.finfo(dtype)
    assert (format.epsilon, format.largest, format.normal) == (info.eps, info.max, info.tiny)
    one = torch.ones(1, dtype=dtype).view(torch.int16)
    assert decode(int(one), format) == 1


def test_the_scale_takes_the_course_of_gradscaler():
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
    ours = Scaler(2.0**16, interval=3)
    for good in (1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0):
        theirs.scale(p.sum())
        p.grad = torch.full((1,), 1.0 if good else float("inf"))
        theirs.step(optimizer)
        theirs.update()
        ours.adapt(bool(good))
        assert ours.scale == theirs.get_scale()
