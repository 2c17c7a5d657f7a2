"""Likelihoods of answers equal a padded stock decoder's, one answer at a time."""

import numpy as np
import pytest
import torch
import toy

from wellread import files
from wellread.errors import RecipeError
from wellread.finetune import data, grid, likelihood, loop
from wellread.models import build, packed
from wellread.serve.predict import Predictor
from wellread.tasks.read import write_task
from wellread.tokens.batch import pack

# One token, several tokens, and several that begin like others.
WORDS = {"drug": "dose", "gene": "treated patients group", "none": "treated patients effect"}
LAYOUTS = ("llama", "gpt2")


def settings(normalise="none", words=WORDS, **changes):
    return toy.settings(head="lm", answer={"words": words, "normalise": normalise}, **changes)


def prepared(tokenizer, chosen, examples=10):
    task = toy.task("classify", examples, 8)
    return data.prepare(task, task.splits["train"], tokenizer, 64, chosen)


def padded(tokenizer, found, examples, labels):
    """Inputs with their answers as padded rows, and labels that are -100 but at the answers."""
    notes = found.head.notes
    rows = []
    for example, label in zip(examples, labels, strict=True):
        text = f"{example.text}\nAnswer:"
        prompt = tokenizer(text)["input_ids"][:-1]
        rows.append((prompt, notes["token_ids"][label]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    wanted, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for number, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[number, :end] = torch.tensor([*prompt, *answer])
        wanted[number, len(prompt) : end] = torch.tensor(answer)
        mask[number, :end] = 1
    return {"input_ids": ids, "attention_mask": mask}, wanted


def scores(model, inputs, wanted):
    """(N,) summed log-likelihoods of the answers, and their lengths."""
    logp = model(**inputs).logits[:, :-1].log_softmax(-1)
    target = wanted[:, 1:]
    picked = logp.gather(-1, target.clamp(min=0)[..., None])[..., 0]
    return (picked * (target >= 0)).sum(1), (target >= 0).sum(1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("normalise", ["none", "tokens"])
def test_scores_equal_the_padded_stock_model_s(layout, normalise, bpe):
    found = prepared(bpe, settings(normalise))
    split = found.splits["dev"]
    model = packed.enable(found.head.open(toy.model(layout), bpe, 0.0, 0)).eval()
    ours = found.head.logits(model, split.encoded)
    packed.disable(model)
    for column, label in enumerate(found.task.labels):
        inputs, wanted = padded(bpe, found, split.examples, [label] * 8)
        with torch.inference_mode():
            sums, lengths = scores(model, inputs, wanted)
        stock = sums / lengths if normalise == "tokens" else sums
        assert np.allclose(ours[:, column], stock.numpy(), atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("normalise", ["none", "tokens"])
@pytest.mark.parametrize("class_weights", [False, True])
def test_loss_and_gradients_equal_the_padded_stock_model_s(layout, normalise, class_weights, bpe):
    found = prepared(bpe, settings(normalise))
    split, index = found.splits["train"], np.arange(10)
    model = packed.enable(found.head.open(toy.model(layout), bpe, 0.0, 0)).train()
    goal = found.head.fit(model, split, index, class_weights)
    loss = found.head.loss(model, split, index, goal, 5)
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    packed.disable(model).zero_grad()
    inputs, wanted = padded(bpe, found, split.examples, [example.label for example in split.examples])
    sums, lengths = scores(model, inputs, wanted)
    each = -(sums / lengths if normalise == "tokens" else sums)
    weight = goal.weights[torch.from_numpy(split.targets)] if class_weights else torch.ones(10)
    stock = (each * weight).sum() / weight.sum()
    stock.backward()
    assert loss.item() == pytest.approx(stock.item(), abs=1e-4)
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], atol=1e-4), name


def test_one_token_each_is_one_pass_and_shared_beginnings_are_read_once(bpe):
    one = likelihood.tokens_of(["dose", "cell", "the"], "{text} {answer}", bpe, "none")
    assert one.forms == ((),)
    many = likelihood.tokens_of(list(WORDS.values()), "{text} {answer}", bpe, "none")
    assert len(many.forms) == 1
    assert many.forms[0] == many.ids[1][:-1] == many.ids[2][:-1]
    assert many.longest == len(many.ids[1]) - 1


def test_an_answer_that_begins_another_is_closed(bpe):
    answers = likelihood.tokens_of(["dose", "dose effect"], "{text} {answer}", bpe, "none")
    assert all(ids[-1] == bpe.eos_token_id for ids in answers.ids)
    # Otherwise the short one would be at least as likely whatever the model says.
    assert (
        likelihood.tokens_of(["dose", "cell"], "{text} {answer}", bpe, "none").ids[0][-1] != bpe.eos_token_id
    )


def test_words_that_cannot_be_told_apart_are_refused(bpe):
    with pytest.raises(RecipeError, match="the same words"):
        likelihood.tokens_of(["dose", "dose"], "{text} {answer}", bpe, "none")
    with pytest.raises(RecipeError, match="at the end"):
        likelihood.head("classify", ("a", "b"), bpe, toy.settings(answer={"template": "{answer} {text}"}))


def test_the_longest_answer_has_room(bpe):
    found = prepared(bpe, settings())
    example = found.task.splits["train"][0]
    from dataclasses import replace

    long = replace(example, text="aspirin extract " * 60)
    answers = likelihood.tokens_of(list(WORDS.values()), "{text}\nAnswer: {answer}", bpe, "none")
    encoded = found.head.encode([long], 64)
    assert encoded.lengths[0] == 64 - answers.longest
    assert encoded.truncated.all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_learns(layout, bpe):
    chosen = settings(
        words={"drug": "dose", "gene": "cell", "none": "treated patients"},
        max_steps=50,
        min_steps=50,
        learning_rate=5e-3,
    )
    task = toy.task("classify")
    found = data.prepare(task, task.splits["train"], bpe, 64, chosen)
    result = loop.finetune(found, task.splits["train"], toy.model(layout), bpe, chosen, 0)
    assert result.dev["macro_f1"] > 0.4  # the best constant answer: 0.22
    assert np.allclose(result.dev_output.sum(1), 1, atol=1e-5)


def between(vectors):
    """A reader that lets some vectors stand between every input and its answer."""
    count = len(vectors)

    def read(model, batch, ends):
        owner = torch.repeat_interleave(torch.arange(batch.sequences), torch.tensor(batch.lengths))
        at = torch.arange(batch.tokens)
        moved = at + count * (owner + (at > ends[owner]))
        longer = pack([[0] * (length + count) for length in batch.lengths])
        embeddings = model.get_input_embeddings()(batch.input_ids)
        places = (moved[ends][:, None] + 1 + torch.arange(count)).flatten()
        given = torch.zeros(longer.tokens, embeddings.shape[1]).index_copy(0, moved, embeddings)
        given = given.index_copy(0, places, vectors.repeat(batch.sequences, 1))
        output = model.base_model(
            inputs_embeds=given[None],
            position_ids=longer.position_ids[None],
            cu_seqlens=longer.cu_seqlens,
            lengths=longer.lengths,
            use_cache=False,
        )
        hidden = output.last_hidden_state[0]
        result = hidden[moved]
        return result.index_copy(0, ends, hidden[moved[ends] + count])

    return read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_between_input_and_answer_are_read_like_tokens(layout, bpe):
    """Where soft prompts go: the vectors of real tokens do there what the tokens do."""
    task, chosen = toy.task("classify", 10, 8), settings()
    extra = bpe(" dose of the", add_special_tokens=False)["input_ids"]
    plain = data.prepare(task, task.splits["train"], bpe, 64, chosen).head
    model = packed.enable(plain.open(toy.model(layout), bpe, 0.0, 0))
    vectors = model.get_input_embeddings().weight[extra].detach().clone().requires_grad_()
    soft = likelihood.head("classify", task.labels, bpe, chosen, read=between(vectors), room=len(extra))
    split = data.encode_split(task, task.splits["train"], bpe, 64, soft)
    found = soft.logits(model.eval(), split.encoded)
    rows = [
        [*split.encoded.input_ids[a:b], *extra]
        for a, b in zip(split.encoded.offsets[:-1], split.encoded.offsets[1:], strict=True)
    ]
    from dataclasses import replace

    literal = replace(
        split.encoded,
        input_ids=np.concatenate(rows),
        offsets=np.cumsum([0, *map(len, rows)]),
    )
    assert np.allclose(found, plain.logits(model, literal), atol=1e-4)
    loss = soft.loss(model, split, np.arange(10), soft.fit(model, split, np.arange(10), False), 0)
    loss.backward()
    assert vectors.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_soft_prompt_before_the_answer_is_trained_saved_and_predicts_the_same(layout, bpe, tmp_path):
    """As MediSwift: only the prompt learns, and it stands between the text and the answer."""
    task = toy.task("classify", 16, 8)
    write_task(task, tmp_path / "task")
    bpe.save_pretrained(tmp_path / "tokenizer")
    build.save(build.build(toy.model(layout), bpe, "clm", 0), bpe, tmp_path / "start")
    chosen = settings(
        light={"method": "prompt", "place": "after", "vectors": 3}, seeds=(0,), min_steps=4, max_steps=4
    )
    job = grid.Job(
        *(tmp_path / "task", tmp_path / "start", tmp_path / "tokenizer", chosen, ("all",), tmp_path / "out"),
        task_name="task",
        model_name="main",
        start_name="pretrained",
    )
    grid.run(job, quiet=True)
    unit = tmp_path / "out/units/pretrained-all-0"
    result = files.read_json(unit / "result.json")
    assert result["trainable_parameters"] == 3 * toy.model(layout).hidden
    predictor = Predictor.load(tmp_path / "out/model")
    answers = list(predictor.predict([example.text for example in task.splits["dev"]]))
    found = [[answer["probabilities"][label] for label in task.labels] for answer in answers]
    assert np.allclose(found, np.load(unit / "dev_scores.npy"), atol=1e-5)
    predictor.model.light.vectors.data.normal_(0, 5)
    other = next(iter(predictor.predict([task.splits["dev"][0].text])))["probabilities"]
    assert not np.allclose([other[label] for label in task.labels], found[0], rtol=1e-2, atol=0)
