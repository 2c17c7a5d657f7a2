"""Nothing near dev or test comes in; labels keep their shares; the control keeps the texts."""

from collections import Counter
from dataclasses import replace

from wellread.augment import screen
from wellread.tasks.task import Example, Task

LONG = "does early treatment with aspirin reduce the risk of a second stroke in elderly patients"


def task(train, dev=(), test=()):
    return Task(
        "t",
        "classify",
        ("no", "yes"),
        "accuracy",
        {"train": list(train), "dev": list(dev), "test": list(test)},
    )


def example(name, text, label="yes", **more):
    return Example(name, text, label, **more)


def test_sources_near_dev_or_test_are_left_out():
    held_out = [
        example("d", "Is a cat a pet?", text_pair=LONG),
        example("e", LONG.upper() + "?", text_pair="another context", doc="pmid:9"),
    ]
    train = [
        example("same text", LONG, text_pair="its own context"),
        example("near text", LONG + " today", text_pair="its own context"),
        example("same context", "what else is there to say about it", text_pair=LONG + "."),
        example("same document", "what more is there to ask of it", text_pair="more of it", doc="pmid:9"),
        example("short and equal", "IS a cat - a pet", text_pair="own"),
        example("clean", "is there any doubt about the effect", text_pair="own"),
    ]
    clean, count = screen.clean_sources(task(train, held_out[:1], held_out[1:]))
    assert [one.id for one in clean] == ["clean"]
    assert count == 5


def test_what_is_near_anything_known_is_refused():
    original = task(
        [example("a", LONG)], [example("b", "is a dog a pet")], [example("c", LONG + " in spain")]
    )
    made = [
        example("1", "Does " + LONG[5:] + "?"),
        example("2", "Is a dog a pet?"),
        example("3", "can tea and coffee help against sleep"),
        example("4", "Can tea and coffee help against sleep?"),
        example("5", "can milk and honey help against a cold"),
    ]
    kept, counts = screen.admit(original, made)
    assert [one.id for one in kept] == ["3", "5"]
    assert counts == {"near dev or test": 2, "generated twice": 1}
    only_train = task(
        [example("a", LONG)], [example("b", "is a dog a pet")], [example("c", "nothing like it here")]
    )
    assert screen.admit(only_train, made[:1]) == ([], {"near train": 1})


def test_labels_keep_the_shares_of_train():
    train = [
        example(str(n), "x", label) for n, label in enumerate(["yes"] * 60 + ["no"] * 30 + ["maybe"] * 10)
    ]
    made = [
        example(f"m{n}", "y", label) for n, label in enumerate(["yes"] * 25 + ["no"] * 30 + ["maybe"] * 6)
    ]
    kept = screen.in_shares(made, train)
    assert Counter(one.label for one in kept) == {"yes": 25, "no": 12, "maybe": 4}
    assert [one.id for one in kept if one.label == "no"] == [f"m{n}" for n in range(25, 37)]
    assert screen.in_shares(made[:25], train) == made[:25]
    assert screen.in_shares([], train) == []


def test_shuffled_labels_are_the_same_labels_on_the_same_texts():
    made = [example(str(n), f"text {n}", "yes" if n % 3 else "no") for n in range(60)]
    mixed = screen.shuffled(made, 1)
    assert Counter(one.label for one in mixed) == Counter(one.label for one in made)
    assert [replace(one, label="") for one in mixed] == [replace(one, label="") for one in made]
    assert sum(a.label != b.label for a, b in zip(made, mixed, strict=True)) > 10
    assert screen.shuffled(made, 1) == mixed != screen.shuffled(made, 2)
    assert screen.shuffled([], 1) == []
