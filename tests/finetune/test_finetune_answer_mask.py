"""Answers under the mask equal a padded stock model's; plain examples; words; learning."""

import numpy as np
import pytest
import torch
import toy
from transformers import PreTrainedTokenizerFast

from wellread.errors import RecipeError
from wellread.finetune import answer_mask, batches, data, loop
from wellread.models import packed
from wellread.settings import AnswerSettings

WORDS = {"drug": "dose", "gene": "cell", "none": "the"}
LAYOUTS = ("modernbert", "bert")


def settings(**changes):
    return toy.settings(head="mlm", **{"answer": {"words": WORDS, "mlm_share": 0.0}, **changes})


def prepared(tokenizer, examples=12, **changes):
    task = toy.task("classify", examples, 10)
    return data.prepare(task, task.splits["train"], tokenizer, 64, settings(**changes))


def padded(tokenizer, examples):
    """The template filled in by hand, as the user of a saved model would, with the place of each mask."""
    texts = [f"{example.text}\nAnswer: {tokenizer.mask_token}" for example in examples]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    return inputs, inputs["input_ids"] == tokenizer.mask_token_id


def close(model, gradients, atol=1e-5):
    for name, weight in model.named_parameters():
        if weight.grad is None:
            assert name not in gradients or not gradients[name].any(), name
        else:
            assert torch.allclose(weight.grad, gradients[name], atol=atol), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("class_weights", [False, True])
def test_loss_and_gradients_equal_the_padded_stock_model(layout, class_weights, tokenizer):
    found = prepared(tokenizer)
    head, split = found.head, found.splits["train"]
    model = head.open(toy.model(layout), tokenizer, 0.0, 0).train()
    index = np.arange(12)
    goal = head.fit(model, split, index, class_weights)
    packed.enable(model)
    loss = head.loss(model, split, index, goal, 7)
    loss.backward()
    gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    packed.disable(model).zero_grad()
    inputs, masks = padded(tokenizer, split.examples)
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(WORDS[e.label]) for e in split.examples])
    if class_weights:
        weight = goal.weights[torch.from_numpy(split.targets)]
        each = torch.nn.functional.cross_entropy(model(**inputs).logits[masks], ids, reduction="none")
        stock = (each * weight).sum() / weight.sum()
    else:
        labels = torch.full_like(inputs["input_ids"], -100)
        labels[masks] = ids
        stock = model(**inputs, labels=labels).loss
    stock.backward()
    assert loss.item() == pytest.approx(stock.item(), abs=1e-5)
    close(model, gradients)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_log_probabilities_equal_the_padded_stock_model_s(layout, tokenizer):
    found = prepared(tokenizer)
    model = found.head.open(toy.model(layout), tokenizer, 0.0, 0).eval()
    encoded = found.splits["dev"].encoded
    ours = found.head.logits(packed.enable(model), encoded)
    packed.disable(model)
    inputs, masks = padded(tokenizer, found.splits["dev"].examples)
    with torch.inference_mode():
        stock = model(**inputs).logits[masks].log_softmax(-1)
    columns = tokenizer.convert_tokens_to_ids([WORDS[label] for label in found.task.labels])
    assert np.allclose(ours, stock[:, columns].numpy(), atol=1e-5)


def test_both_spellings_of_a_word_count(tmp_path):
    tokenizer = toy.make_tokenizer(tmp_path, kind="bpe")
    asked = answer_mask.ask(("a", "b"), tokenizer, AnswerSettings(words=(("a", "the"), ("b", "of"))))
    vocabulary = tokenizer.get_vocab()
    assert set(asked.spellings[1]) == {vocabulary[word] for word in ("of", "Ġof") if word in vocabulary}
    assert len(asked.spellings[1]) == 2
    assert asked.target[1] == vocabulary["Ġof"]
    # The space belongs to the word, so the mask stands right behind the colon.
    assert asked.template.endswith("Answer:{answer}")
    chosen = toy.settings(answer={"words": {"a": "the", "b": "of"}})
    head = answer_mask.head("classify", ("a", "b"), tokenizer, chosen)
    model = head.open(toy.model(), tokenizer, 0.0, 0).eval()
    examples = toy.task("classify", 3, 3).splits["train"]
    ours = head.logits(packed.enable(model), head.encode(examples, 64))
    inputs = tokenizer([f"{e.text}\nAnswer:[MASK]" for e in examples], padding=True, return_tensors="pt")
    with torch.inference_mode():
        stock = packed.disable(model)(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
    probabilities = stock.softmax(-1)
    both = torch.stack([probabilities[:, list(ids)].sum(-1) for ids in asked.spellings], 1)
    assert np.allclose(np.exp(ours), both.numpy(), atol=1e-6)
    # What is read back from the saved notes spells the same.
    again = answer_mask.ask(
        ("a", "b"), tokenizer, AnswerSettings(template=asked.template, words=(("a", "the"), ("b", "of")))
    )
    assert (again.template, again.spellings) == (asked.template, asked.spellings)


def fill_in(tokenizer, share, seed=3, rate=0.3):
    found = prepared(tokenizer, 40)
    split, index = found.splits["train"], np.arange(40)
    asked = answer_mask.ask(found.task.labels, tokenizer, settings().answer)
    batch, rows, _ = batches.select(split.encoded, index)
    plain = np.random.default_rng(0).random(40) < share
    answers = asked.target[split.targets]
    return batch, rows, plain, answers, answer_mask._fill_in(asked, rate, batch, rows, answers, plain, seed)


def test_plain_examples_hold_their_answer_and_hide_a_share_of_the_rest(tokenizer):
    batch, rows, plain, answers, (given, at, right) = fill_in(tokenizer, 0.5)
    whole = batch.input_ids.clone()
    whole[rows] = torch.from_numpy(answers)
    assert np.array_equal(whole.numpy()[at], right)
    changed = (given.input_ids != whole).numpy()
    assert np.array_equal(np.flatnonzero(changed), np.sort(at))
    assert (given.input_ids.numpy()[at] == tokenizer.mask_token_id).all()
    owner = np.repeat(np.arange(40), batch.lengths)
    for number in range(40):
        mine = at[owner[at] == number]
        if not plain[number]:
            assert mine.tolist() == [rows[number]]
            continue
        maskable = int((~np.isin(whole.numpy()[owner == number], tokenizer.all_special_ids)).sum())
        assert len(mine) == max(1, int(0.3 * maskable + 0.5))


def test_other_steps_hide_other_tokens(tokenizer):
    first, again, other = (fill_in(tokenizer, 1.0, seed)[-1][1].tolist() for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_every_example_weighs_the_same_whatever_it_asks(share, tokenizer):
    found = prepared(tokenizer, answer={"words": WORDS, "mlm_share": share})
    head, split, index = found.head, found.splits["train"], np.arange(12)
    model = packed.enable(head.open(toy.model(), tokenizer, 0.0, 0).train())
    goal = head.fit(model, split, index, False)
    loss = head.loss(model, split, index, goal, 11)
    asked = answer_mask.ask(found.task.labels, tokenizer, settings().answer)
    alone = []
    packed.disable(model)
    order = index[np.argsort(split.encoded.lengths, kind="stable")]
    from wellread import rng

    plain = rng.uniform(11, "plain-mlm", order) < share
    assert plain.any()
    for number, is_plain in zip(order, plain, strict=True):
        batch, rows, _ = batches.select(split.encoded, np.array([number]))
        answers = asked.target[split.targets[[number]]]
        given, at, right = answer_mask._fill_in(asked, 0.3, batch, rows, answers, np.array([is_plain]), 11)
        labels = torch.full((1, batch.tokens), -100)
        labels[0, at] = torch.from_numpy(right)
        alone.append(model(input_ids=given.input_ids[None], labels=labels).loss)
    assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-5)


def test_words_are_labels_then_small_letters_then_letters_with_a_list(tokenizer):
    assert answer_mask.ask(("the", "of"), tokenizer, AnswerSettings()).words == ("the", "of")
    assert answer_mask.ask(("the", "of"), tokenizer, AnswerSettings()).options == ""
    letters = answer_mask.ask(("brca1 dose", "kras-2"), tokenizer, AnswerSettings())
    assert letters.words == ("A", "B")
    assert letters.options == "- A: brca1 dose\n- B: kras-2"
    multiple = answer_mask.ask(("A", "B", "C"), tokenizer, AnswerSettings())
    assert (multiple.words, multiple.options) == (("A", "B", "C"), "")


def test_small_letters_for_a_tokenizer_that_knows_no_capitals(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = ["[PAD]", "[UNK]", "[MASK]", "yes", "no", "Answer", ":"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
    )
    assert answer_mask.ask(("YES", "No"), tokenizer, AnswerSettings()).words == ("yes", "no")
    with pytest.raises(RecipeError, match="'A' is more than one token"):
        answer_mask.ask(("left", "right"), tokenizer, AnswerSettings())


@pytest.mark.parametrize(
    ("words", "what"),
    [({"a": "the", "b": "brca1 dose"}, "more than one token"), ({"a": "the", "b": "The"}, "the same token")],
)
def test_words_that_are_no_single_tokens_are_refused(words, what, tokenizer):
    with pytest.raises(RecipeError, match=what) as caught:
        answer_mask.ask(("a", "b"), tokenizer, AnswerSettings(words=words))
    assert caught.value.where == "finetune.answer.words"


def test_a_tokenizer_without_a_mask_is_refused(bpe):
    with pytest.raises(RecipeError, match="no mask token"):
        answer_mask.ask(("a", "b"), bpe, AnswerSettings())


def run(tokenizer, share, steps):
    task = toy.task("classify")
    chosen = settings(
        answer={"words": WORDS, "mlm_share": share, "template": "{text} {answer}"},
        min_steps=steps,
        max_steps=steps,
        learning_rate=5e-3,
    )
    found = data.prepare(task, task.splits["train"], tokenizer, 64, chosen)
    return loop.finetune(found, task.splits["train"], toy.model(), tokenizer, chosen, 0)


def test_it_learns_beside_plain_examples(tokenizer):
    result = run(tokenizer, 0.2, 60)
    assert result.dev["macro_f1"] > 0.5  # the best constant answer: 0.22
    assert np.allclose(result.dev_output.sum(1), 1, atol=1e-5)


def test_a_run_repeats_bit_for_bit(tokenizer):
    first, second = (run(tokenizer, 0.5, 5) for _ in range(2))
    assert first.history == second.history
    assert np.array_equal(first.test_output, second.test_output)


def test_without_labels_the_start_answers_as_it_is(tokenizer, tmp_path):
    from wellread.models import build

    model = build.build(toy.model(), tokenizer, "mlm", 3)
    build.save(model, tokenizer, tmp_path)
    task = toy.task("classify", 5, 20)
    found = data.prepare(task, [], tokenizer, 64, settings())
    result = loop.finetune(found, [], tmp_path, tokenizer, settings(), 0)
    assert (result.labels, result.steps, result.best_step, result.history) == (0, 0, 0, [])
    before = model.state_dict()
    assert all(torch.equal(before[name], weight) for name, weight in result.model.state_dict().items())
    inputs, masks = padded(tokenizer, task.splits["test"])
    with torch.inference_mode():
        stock = model.eval()(**inputs).logits[masks]
    columns = tokenizer.convert_tokens_to_ids([WORDS[label] for label in task.labels])
    assert np.allclose(result.test_output, stock[:, columns].softmax(-1).numpy(), atol=1e-5)
