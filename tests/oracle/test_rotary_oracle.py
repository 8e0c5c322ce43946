"""Day 31 · Slowed hands equal those of transformers, which real models are read with."""

import pytest

from llm.layers.stretch import by_base, by_parts, interpolated, llama3, usual, yarn_scale

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def theirs(kind, D, T, base, **options):
    """transformers' (frequencies, scale) of a model with heads of D and T trained positions."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=4 * D, num_attention_heads=4, head_dim=D,
        max_position_embeddings=T if kind == "dynamic" else options.get("factor", 1) * T,
        rope_parameters={"rope_type": kind, "rope_theta": base, **options})
    config.standardize_rope_params()
    speed, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=options.get("factor", 1) * T)
    return speed.numpy(), scale


@pytest.mark.parametrize("D, T, base", [(64, 2048, 10000.0), (128, 8192, 500000.0),
                                        (8, 64, 1000.0)])
@pytest.mark.parametrize("factor", [2, 8])
def test_slowed_hands_equal_the_peers(D, T, base, factor):
    speed, scale = theirs("linear", D, T, base, factor=factor)
    assert interpolated(D, factor, base) == pytest.approx(speed, rel=1e-5) and scale == 1
    speed, scale = theirs("yarn", D, T, base, factor=factor, original_max_position_embeddings=T)
    assert by_parts(D, factor, T, base) == pytest.approx(speed, rel=1e-5)
    assert yarn_scale(factor) == pytest.approx(scale)
    speed, scale = theirs("llama3", D, T, base, factor=factor, low_freq_factor=1.0,
                          high_freq_factor=4.0, original_max_position_embeddings=T)
    assert llama3(D, factor, T, base) == pytest.approx(speed, rel=1e-4) and scale == 1


@pytest.mark.parametrize("D, base", [(64, 10000.0), (8, 1000.0)])
def test_a_larger_base_is_the_peers_dynamic_one_at_that_length(D, base):
    """Theirs grows with the text: at s times the length, factor f gives (f·s − f + 1)."""
    speed, _ = theirs("dynamic", D, 512, base, factor=2)
    assert by_base(D, 2 * 2 - 1, base) == pytest.approx(speed, rel=1e-5)
    assert usual(D, base)[0] == 1
