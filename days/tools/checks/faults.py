"""`python -m days mutants --fixed`: faults that stood unnoticed once, and the test that each got.

A review planted faults by hand; those that no test noticed are below, each with the test written
for it. Planted in a scratch copy, each must make that test fail. CI runs this list: unlike a random
sample it can only turn red where a test was weakened. Left out are those whose test compiles.
"""

import queue
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from days.harness import UsageError, console, progress, say
from days.tools.data import course, ownership, scratch

PATIENCE = 120          # seconds for one test
NO_TEST = 5             # pytest's exit status when it ran none


@dataclass(frozen=True)
class Fault:
    """`right`, found once in `file`, becomes `wrong`: then `test` of that day fails."""

    day: int
    file: str
    right: str
    wrong: str
    test: str

    @property
    def title(self):
        """What `scratch.plant` calls it."""
        return self.test


FAULTS = [Fault(*one) for one in [
    (1, "llm/data/text.py",
     'text = text.removeprefix("\\ufeff")',
     'text = text.replace("\\ufeff", "")',
     "test_file_is_read_with_plain_newlines_and_no_mark"),
    (1, "llm/data/download.py",
     "os.chmod(part, 0o644)   # mkstemp makes it readable by its owner alone",
     "pass",
     "test_a_written_file_can_be_read_by_others"),
    (5, "llm/models/markov.py",
     "return self.vocab_size**self.order * (self.vocab_size - 1)",
     "return self.vocab_size**self.order * self.vocab_size",
     "test_the_last_probability_of_a_row_is_no_free_number"),
    (6, "llm/models/smoothing.py",
     "FALLBACK = np.array([0.5, 1.0, 1.5])",
     "FALLBACK = np.array([0.5, 0.5, 0.5])",
     "test_without_runs_that_were_seen_four_times_the_discounts_are_the_usual_ones"),
    (7, "llm/data/grammar.py",
     "return total if at == len(text) else -math.inf",
     "return total",
     "test_pets_by_hand"),
    (7, "llm/functions/probability.py",
     "SLACK = 1e-3",
     "SLACK = 1e-1",
     "test_wrong_targets_and_distributions_are_refused"),
    (9, "llm/models/bigram.py",
     "for step in range(steps + 1):",
     "for step in range(steps):",
     "test_descend_leaves_its_input_and_stops_when_told"),
    (10, "llm/functions/dense.py",
     "phi = 0.5 * np.fromiter(map(math.erfc, z)",
     "phi = 1 - 0.5 * np.fromiter(map(math.erfc, [-t for t in z])",
     "test_gelu_erf_keeps_its_digits_far_below_zero"),
    (11, "llm/models/window.py",
     '"w1": (context * channels) ** -0.5,',
     '"w1": channels ** -0.5,',
     "test_each_matrix_is_divided_by_the_root_of_its_inputs"),
    (11, "llm/models/counts.py",
     "table[index] == codes",
     "table[index] <= codes",
     "test_a_run_beyond_all_known_runs_is_unknown"),
    (12, "llm/grad/check.py",
     "wide[..., ::2] = array\n"
     "    return wide[..., ::2]",
     "wide[..., ::2] = array\n"
     "    return wide[..., ::2].copy()",
     "test_a_twin_that_fails_on_views_alone_is_found"),
    (13, "llm/grad/scalar.py",
     "self.grad = self.grad + 1.0",
     "self.grad = 1.0",
     "test_backward_twice_adds_to_a_leaf"),
    (13, "llm/models/vowels.py",
     "rate * (1.0 - step / steps)",
     "rate * (1.0 - (step + 1) / steps)",
     "test_the_rate_falls_linearly_from_its_full_value_towards_zero"),
    (13, "llm/models/vowels.py",
     "rng.normal(0.0, inputs**-0.5,",
     "rng.normal(0.0, 1.0,",
     "test_first_weights_shrink_with_the_number_of_inputs"),
    (13, "llm/models/vowels.py",
     "far[:, vowels].sum() / 20)",
     "far[:, vowels].sum() / 25)",
     "test_distances_leave_out_a_vowel_and_itself"),
    (14, "llm/grad/rules.py",
     "loss = -picked.sum(dtype=np.float64) / count",
     "loss = -picked.sum() / count",
     "test_the_loss_of_many_float16_rows_is_added_up_in_float64"),
    (15, "llm/grad/tensor.py",
     "return out * (out.data.size / max(self.data.size, 1))",
     "return out * (1 / max(self.data.size, 1))",
     "test_methods_take_shapes_and_axes_as_numbers_or_as_a_tuple_and_keep_axes"),
    (15, "llm/grad/tensor.py",
     "_recording.reset(token)",
     "_recording.set(True)",
     "test_recording_stays_off_after_an_inner_no_grad"),
    (15, "llm/grad/walk.py",
     "grad = np.array(grad, root.dtype)                  # a copy",
     "grad = np.asarray(grad, root.dtype)                  # a copy",
     "test_a_leaf_does_not_keep_the_callers_gradient_as_its_own"),
    (15, "llm/grad/walk.py",
     "leaf.grad = np.asarray(leaf.grad + g)",
     "leaf.grad += g",
     "test_the_callers_gradient_is_not_changed_nor_kept"),
    (15, "llm/grad/memory.py",
     "tracemalloc.reset_peak()",
     "pass",
     "test_the_most_bytes_are_noted_for_each_operation_alone"),
    (16, "llm/layers/module.py",
     "tensor.grad = None",
     "tensor.grad = tensor.grad * 0 if tensor.grad is not None else None",
     "test_zero_grad_forgets"),
    (16, "llm/models/neural_ngram.py",
     "weight = min(max(weight, 1e-6), 1 - 1e-6)",
     "pass",
     "test_the_best_weight_stays_inside_where_one_model_is_always_right"),
    (16, "llm/models/neural_ngram.py",
     "rate(step, total) if callable(rate)",
     "rate(step - 1, total) if callable(rate)",
     "test_a_rate_that_is_called_sees_the_steps_from_one_to_the_total"),
    (16, "llm/models/neural_ngram.py",
     "rng.integers(len(targets), size=batch)",
     "rng.integers(len(targets) - 1, size=batch)",
     "test_every_window_can_be_drawn_the_first_and_the_last"),
    (16, "llm/models/neural_ngram.py",
     "return step + int(step * (seconds - passed) / max(passed, 1e-6))",
     "return step + int(step * seconds / max(passed, 1e-6))",
     "test_half_the_time_for_so_many_steps_means_twice_as_many_in_all"),
    (17, "llm/train/sgd.py",
     "if p.grad is None:\n"
     "                continue",
     "if p.grad is None:\n"
     "                break",
     "test_a_parameter_after_one_without_a_gradient_still_moves"),
    (17, "llm/train/sgd.py",
     "if array.shape != np.shape(state[key]):",
     "if array.size != np.size(state[key]):",
     "test_a_state_of_another_shape_or_with_other_names_is_refused"),
    (17, "llm/train/sgd.py",
     "if mine.keys() != state.keys():",
     "if not mine.keys() <= state.keys():",
     "test_a_state_of_another_shape_or_with_other_names_is_refused"),
    (18, "llm/train/adam.py",
     "p.data -= rate * g / (np.sqrt(v) + self.eps)",
     "p.data -= rate * g / np.sqrt(v + self.eps)",
     "test_eps_of_rmsprop_stands_outside_the_root"),
    (18, "llm/train/adam.py",
     "def __init__(self, parameters, beta=0.99, eps=1e-8):",
     "def __init__(self, parameters, beta=0.9, eps=1e-8):",
     "test_the_defaults_are_the_published_ones"),
    (21, "llm/layers/norm.py",
     "return layernorm(x, self.gain, self.bias, eps=self.eps)",
     "return layernorm(x, self.gain, self.bias)",
     "test_eps_of_the_layer_is_used"),
    (27, "llm/functions/attention.py",
     "bias.astype(scores.dtype)",
     "bias",
     "test_a_bias_in_float64_leaves_float32_as_it_is"),
    (28, "llm/functions/causal.py",
     "visible=visible_past(q.shape[-2]), bias=bias)",
     "visible=visible_past(q.shape[-2]))",
     "test_a_bias_on_visible_places_is_added_to_the_scores"),
    (30, "llm/layers/positions.py",
     "x.shape[-1], x.dtype))",
     "x.shape[-1]))",
     "test_sinusoids_add_in_the_inputs_own_dtype"),
    (32, "llm/layers/residual.py",
     "return self.norm(x + self.dropout(self.branch(x, rng), rng))",
     "return self.norm(x + self.branch(x, rng))",
     "test_post_norm_drops_too"),
    (33, "llm/layers/block.py",
     "self.down = Linear(hidden, channels, rng, bias, out_std, dtype)",
     "self.down = Linear(hidden, channels, rng, bias, std, dtype)",
     "test_the_spread_of_each_matrix_is_as_asked"),
    (34, "llm/models/gpt.py",
     "x = self.dropout(self.positions(x) if self.positions else x, rng)",
     "x = self.positions(x) if self.positions else x",
     "test_dropout_acts_on_the_embedding_and_in_each_block"),
    (34, "llm/models/gpt.py",
     "for block in self.blocks:\n"
     "            x = block(x, rng)",
     "for block in self.blocks:\n"
     "            x = block(x)",
     "test_dropout_acts_on_the_embedding_and_in_each_block"),
    (35, "llm/train/loop.py",
     "by_time = start + int(",
     "by_time = int(",
     "test_a_resumed_run_never_takes_a_step_at_the_peak_rate"),
    (35, "llm/train/loop.py",
     "by_time if steps is None else min(steps, by_time)",
     "by_time if steps is None else max(steps, by_time)",
     "test_the_total_is_guessed_from_the_pace"),
    (35, "llm/train/loop.py",
     "elif now - first > ONE_PRESS:",
     "elif False:",
     "test_a_second_ctrl_c_raises_but_the_echo_of_the_first_does_not"),
    (35, "llm/train/snapshot.py",
     "os.chmod(part, 0o644)",
     "pass",
     "test_a_snapshot_may_be_read_by_others_and_leaves_no_part"),
    (38, "llm/kernels/embedding.py",
     "ids.min() < 0 or",
     "",
     "test_ids_outside_the_table_are_refused_before_a_kernel_reads_there"),
]]


def check(root, jobs, faults=None):
    """Plant each fault whose day is here; list those that their test misses; status 1 if any."""
    owners = ownership.owners_of(root)
    faults = [f for f in faults or FAULTS if course.test_file(f.day) in owners]
    scratch.share_cores(jobs)
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        copies = queue.SimpleQueue()
        for n in range(jobs):
            copy = Path(folder).resolve() / f"copy{n}"
            scratch.fill(root, owners, copy, lambda owner: True)
            copies.put(copy)
        healthy(copy, faults)
        with progress(len(faults), "fixed faults") as tick, ThreadPoolExecutor(jobs) as pool:
            def one(fault):
                missed = missed_by(root, copies, fault)
                tick()
                return missed
            missed = [why for why in pool.map(one, faults) if why]
    screen = console()
    for why in missed:
        screen.print(why, markup=False, soft_wrap=True)
    say(f"{len(faults)} faults planted, {len(missed)} missed")
    return 1 if missed else 0


def healthy(copy, faults):
    """UsageError unless the tests pass while nothing is planted."""
    files = sorted({course.test_file(f.day) for f in faults})
    done = scratch.python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k",
                          " or ".join({f.test for f in faults}), *files, cwd=copy, COLUMNS="200")
    if done.returncode:
        raise UsageError(f"a test fails by itself: {scratch.last_words(done)}")


def missed_by(root, copies, fault):
    """What is wrong with one fault's test; "" where it notices the fault."""
    copy = copies.get()
    title = f"day {fault.day:02d}, {fault.file}: {fault.wrong.strip()}"
    try:
        scratch.plant(copy, fault)
        scratch.forget_compiled(copy, fault.file)
        done = scratch.pytest(copy, fault.day, "-x", "-q", "-k", fault.test, timeout=PATIENCE,
                              PYTHONDONTWRITEBYTECODE="1")
        if done.returncode == scratch.CAUGHT:
            return ""
        how = {0: f"{fault.test} passes", NO_TEST: f"there is no {fault.test}"}
        return f"{title}\n  {how.get(done.returncode, scratch.last_words(done))}"
    except subprocess.TimeoutExpired:
        return f"{title}\n  {fault.test} does not end within {PATIENCE} s"
    except ValueError:
        return f"{title}\n  its right line no longer stands there once: write the fault anew"
    finally:
        scratch.restore_file(root, copy, fault.file)
        copies.put(copy)
