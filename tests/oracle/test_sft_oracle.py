"""Day 53 · SmolLM2's chat template and masks as transformers has them; the loss as in PyTorch.

The real file is needed; where it cannot be fetched the tests are skipped and say so. No peer
touches a hub: transformers gets the template's source and our vocabulary in a file.
"""

import numpy as np
import pytest

from llm.data.download import TextError
from llm.generate.pretrained import load
from llm.generate.template import CHATML, Message
from llm.models.llama import Llama, LlamaConfig
from llm.tune import chat, sft

WHY = "pip install -r requirements-dev.txt brings the peers of day 53"
TALKS = [[("user", "What is 2 + 2?"), ("assistant", "4")],
         [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"),
          ("user", "é\n\n <|im_end|"), ("assistant", "It is\nso."),
          ("user", "x"), ("assistant", "a  b ")]]
MARKED = CHATML.replace(
    "message['content'] + '<|im_end|>' + '\\n' }}",
    "'' }}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + "
    "'<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\\n' }}")


@pytest.fixture(scope="module")
def real():
    try:
        return load(report=lambda line: None)
    except TextError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def theirs(real, tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason=WHY)
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    real.tokenizer.save(path)
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("own", [True, False])
def test_ids_equal_apply_chat_template(real, theirs, talk, own):
    messages = [Message(*turn) for turn in talk]
    template = real.chat_template() if own else chat.chatml()
    dicts = [{"role": role, "content": content} for role, content in talk]
    ids, _ = chat.example(real.tokenizer, messages, template)
    whole = theirs.apply_chat_template(dicts, chat_template=template.source, return_dict=False)
    assert ids.tolist() == list(whole)[:len(ids)] and len(whole) - len(ids) <= 1      # "\n"
    prompt = theirs.apply_chat_template(dicts[:-1], chat_template=template.source,
                                        add_generation_prompt=True, return_dict=False)
    assert chat.prompt_ids(real.tokenizer, messages[:-1], template).tolist() == list(prompt)


@pytest.mark.parametrize("talk", TALKS)
def test_the_mask_is_that_of_generation_blocks(real, theirs, talk):
    messages = [Message(*turn) for turn in talk]
    ids, mask = chat.example(real.tokenizer, messages)
    told = theirs.apply_chat_template(
        [{"role": role, "content": content} for role, content in talk], chat_template=MARKED,
        return_dict=True, return_assistant_tokens_mask=True)
    assert ids.tolist() == list(told["input_ids"])[:len(ids)]
    assert mask.tolist() == [bool(x) for x in told["assistant_masks"]][:len(ids)]


def test_the_loss_is_pytorchs_with_the_same_labels():
    torch = pytest.importorskip("torch", reason=WHY)
    rng = np.random.default_rng(0)
    model = Llama(LlamaConfig(50, 16, 24, 2, 3, 1, 40), rng)
    inputs = rng.integers(0, 50, (3, 16))
    targets = np.where(rng.random((3, 16)) < 0.4, rng.integers(0, 50, (3, 16)), -100)
    value, count = sft.answer_loss(model, inputs, targets)
    logits = torch.tensor(model(inputs).data).reshape(-1, 50)
    labels = torch.tensor(targets.reshape(-1))
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)
    assert count == int((labels != -100).sum())
    assert float(value.data) == pytest.approx(float(expected), rel=1e-5)
