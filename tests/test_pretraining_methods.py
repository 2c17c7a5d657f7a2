"""The comparison of pre-training methods: its arms are valid, budgets match, gains and worth are exact,
and it goes on from kept results."""

import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from wellread import files, methods, recipe
from wellread.errors import RecipeError, UserError
from wellread.sparsity.flops import training_flops

FOLDER = Path(__file__).parents[1] / "experiments" / "pretraining-methods"
NAMES = ("arms", "budget", "ranking", "page", "runs", "kept")


@pytest.fixture
def parts(monkeypatch):
    """The harness' modules by name."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))
    for name in NAMES:
        sys.modules.pop(name, None)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def declared(parts):
    return parts["arms"].load(FOLDER / "arms.toml")


def test_every_arm_is_a_valid_variant_and_has_a_page(parts, declared):
    base = recipe.load(FOLDER / "recipe.toml")
    plain = parts["arms"].settings(base, declared.arm("plain"), 50_000, 1e-3, {})
    for name, arm in {**declared.arms, **declared.sources}.items():
        places = {needed: Path("/somewhere") for needed in arm.needs}
        model, pretrain = parts["arms"].settings(base, arm, 50_000, arm.rates[0], places)
        assert pretrain.tokens == 50_000 and getattr(pretrain, arm.rate_key) == arm.rates[0]
        assert name == "plain" or (model, pretrain) != plain
        assert not arm.needs - {"terms", *declared.sources}
        if name in declared.arms:
            methods.find(arm.page)


def test_two_arms_together_have_the_changes_of_both(parts, declared):
    base = recipe.load(FOLDER / "recipe.toml")
    both = declared.arm("span+rate-40+adamw")
    _, pretrain = parts["arms"].settings(base, both, 50_000, both.rates[0], {})
    assert pretrain.masking.rate == 0.4 and pretrain.masking.units == (("span", 1.0),)
    assert pretrain.optimizer == "adamw" and pretrain.learning_rate == both.rates[0]
    with pytest.raises(RecipeError) as caught:
        declared.arm("spam")
    assert "'span'" in caught.value.fix


def test_a_wrong_file_of_arms_is_refused(parts, tmp_path):
    path = tmp_path / "arms.toml"
    path.write_text("[pilot]\nrates = [1e-3]\nshare = 0.2\n[arms.other]\n")
    with pytest.raises(RecipeError):
        parts["arms"].load(path)
    path.write_text("[pilot]\nrates = [1e-3]\nshare = 0.2\n[arms.plain]\npagge = 'masking'\n")
    with pytest.raises(RecipeError) as caught:
        parts["arms"].load(path)
    assert "pagge" in caught.value.what


def test_equal_flops_are_equal_to_within_a_step(parts):
    """Tokens of a sparse arm with another mask rate spend the plain arm's FLOPs, counted from the formula."""
    shape = recipe.load(FOLDER / "recipe.toml").model
    lengths, batch, plain = [100] * 10, 1024, 2_000_000
    each = {
        name: training_flops(shape, 8192, lengths, level, rate)["accounted"] / 1000
        for name, level, rate in (("plain", 0.0, 0.3), ("arm", 0.75, 0.15), ("source", 0.5, 0.3))
    }
    cost = parts["budget"].cost(each["arm"], each["plain"], [(2.0, 4.0), (9.0, 3.0), (3.0, 4.0)])
    assert cost.seconds == 0.75
    source = parts["budget"].cost(each["source"], each["plain"], [(1.0, 2.0)])
    found = parts["budget"].budgets(plain, cost, source, 400_000, batch, "arm")
    spent = found["flops"] * each["arm"] + 400_000 * each["source"]
    assert abs(spent - plain * each["plain"]) <= batch * each["arm"]
    assert found["flops"] % batch == found["seconds"] % batch == 0
    assert abs(found["seconds"] * 0.75 + 400_000 * 0.5 - plain) <= batch


def test_budgets_that_hardly_differ_are_one_run_and_impossible_ones_are_refused(parts):
    budget = parts["budget"]
    free = budget.Cost()
    near = budget.budgets(1_000_000, budget.Cost(1.0, 1.015), free, 0, 1000, "arm")
    assert near == {"flops": 1_000_000, "seconds": 1_000_000}
    far = budget.budgets(1_000_000, budget.Cost(1.0, 1.1), free, 0, 1000, "arm")
    assert far == {"flops": 1_000_000, "seconds": 909_000}
    with pytest.raises(UserError) as caught:
        budget.budgets(1_000_000, free, free, 999_000, 1000, "arm")
    assert caught.value.where == "arms.arm"


def test_gains_are_paired_by_seed_and_their_interval_is_students(parts):
    gain = parts["ranking"].gain({0: 4.0, 1: 5.0, 2: 6.0, 7: 0.0}, {0: 4.3, 1: 5.1, 2: 6.2}, -1.0)
    assert gain.each == pytest.approx((0.3, 0.1, 0.2)) and gain.mean == pytest.approx(0.2)
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # t of 97.5% with two degrees of freedom
    assert gain.high == pytest.approx(0.2 + half) and gain.low == pytest.approx(0.2 - half)
    assert gain.verdict == "within the noise"
    sure = parts["ranking"].gain({0: 2.0, 1: 2.01, 2: 1.99}, {0: 1.0, 1: 1.0, 2: 1.0})
    assert sure.verdict == "better"
    assert parts["ranking"].gain({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.1}).verdict == "worse"
    alone = parts["ranking"].gain({0: 9.0}, {0: 1.0})
    assert alone.verdict == "one seed" and math.isinf(alone.high)
    assert parts["ranking"].gain({0: 9.0}, {1: 1.0}) is None


def test_worth_is_read_off_the_plain_curve(parts):
    worth, curve = parts["ranking"].worth, [(2.0, 3.0), (0.5, 5.0), (1.0, 4.0)]
    assert worth(4.0, curve) == ("", 1.0)
    assert worth(3.5, curve) == ("", pytest.approx(math.sqrt(2.0)))
    assert worth(4.5, curve) == ("", pytest.approx(math.sqrt(0.5)))
    assert worth(3.0, curve) == ("", 2.0)
    assert worth(2.9, curve) == (">", 2.0) and worth(5.1, curve) == ("<", 0.5)
    assert worth(4.0, [(1.0, 4.0)]) == ("", 1.0)


def rows():
    """Two arms and the plain one: `span` is better by 0.5 in loss, `sop` worse by 0.1."""
    found = []
    for arm, shift in (("plain", 0.0), ("sop", 0.1), ("span", -0.5)):
        for seed in range(3):
            found.append(
                {
                    "arm": arm,
                    "match": ["flops", "seconds"] if arm == "plain" else ["flops"],
                    "seed": seed,
                    "rate": 0.008,
                    "shared_rate": arm == "span",
                    "tokens": 2_000_000,
                    "loss": 5.0 + shift + 0.01 * seed * (1 + shift),
                    "terms": 0.1 - shift / 10 + 0.001 * seed,
                    "probe": {"a": 0.5, "b": 0.7 - shift},
                    "finetune": {"a": 0.6, "b": 0.8},
                }
            )
    return found


def test_the_page_ranks_the_arms_and_tells_the_negatives(parts, declared, tmp_path):
    scaled = [{"scale": scale, "loss": loss} for scale, loss in ((0.5, 5.5), (2.0, 4.6))]
    text = parts["page"].write(rows(), scaled, ["adamw: all pilots"], declared, tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("| 1 |") or line.startswith("| 2 |")]
    assert [line.split(" | ")[1] for line in lines] == ["span", "sop"]
    cells = lines[0].strip("| ").split(" | ")
    assert cells[3] == "0.008*" and lines[1].strip("| ").split(" | ")[3] == "0.008"
    assert cells[4].startswith("+0.50") and "5.0 (" in cells[5].lstrip("+") and cells[6].startswith("+25.0")
    assert cells[7].startswith("+0.0")
    assert ">2.00x" in lines[0] and "better" in lines[0] and "worse" in lines[1]
    assert "At equal accounted FLOPs, worse in validation loss: sop." in text
    assert "adamw: all pilots" in text and "At equal seconds\n" not in text
    single = parts["page"].write([row for row in rows() if row["seed"] == 0], [], [], declared, tmp_path)
    assert (
        "within the noise" not in single and "run with one seed: span, sop." in single and "x |" not in single
    )
    parts["page"].write(rows(), scaled, [], declared, tmp_path)
    picture = tmp_path / "gain-flops-loss.svg"
    before = picture.read_bytes()
    ElementTree.fromstring(before)
    parts["page"].write(rows(), scaled, [], declared, tmp_path)
    assert picture.read_bytes() == before


def test_kept_results_stand_for_runs_until_weights_are_wanted(parts, declared, tmp_path, monkeypatch):
    runs, kept = parts["runs"], parts["kept"]
    base = recipe.load(FOLDER / "recipe.toml")
    first, second = (runs.Study(base, declared, tmp_path / name, 50_000, 3, 10, 1) for name in "ab")
    made = []

    def write(path, value):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, value)

    def trial(model, settings, prepared, folder, seed):
        """Stands for a pre-training, which takes minutes."""
        made.append(folder.name)
        facts = {
            "loss": 4.5,
            "tokens": 50_000,
            "flops": {"accounted": 7.0},
            "start": {"path": "/x", "flops": None},
        }
        write(folder / "pretrain.json", facts)
        (folder / "timing.jsonl").write_text('{"seconds": 1.0}\n{"seconds": 9.0}\n')
        (folder / "model").mkdir(exist_ok=True)
        return runs.read(folder)

    monkeypatch.setattr(runs, "trial", trial)
    for study in (first, second):
        write(study.prepared / "tokens" / "train" / "store.json", {})
    span = declared.arm("span")
    done = runs.run(first, span, 50_000, 1e-3, 0)
    write(done.folder / "terms-100-0.json", {"found": {"whole": 0.1}, "seconds": 2.0})
    write(first.out / "runs" / "sop-1" / "failed.json", {"seed": 1, "what": "not finite"})
    write(first.out / "calibration" / "span-1-3.json", {"flops": 2.0, "pairs": [[1.0, 2.0]]})
    path = tmp_path / "kept.jsonl"
    kept.save(first, path)
    assert "/x" not in path.read_text() and str(tmp_path) not in path.read_text()

    assert kept.restore(second, path) == 3 and kept.gather(second.out) == kept.gather(first.out)
    again = runs.run(second, span, 50_000, 1e-3, 0)
    assert (again.loss, again.seconds, again.flops) == (4.5, 9.0, 7.0) and len(made) == 1
    assert not (again.folder / "model").exists()
    assert runs.run(second, span, 50_000, 2e-3, 0).folder != again.folder and len(made) == 2
    assert runs.run(second, span, 50_000, 1e-3, 0, weights=True).folder / "model" == again.folder / "model"
    assert (again.folder / "model").exists() and len(made) == 3

    kept.save(second, path)
    assert len(kept.read(path)) == 4 and kept.restore(first, path) == 4  # the one of another rate came in
    assert runs.run(first, span, 50_000, 2e-3, 0).loss == 4.5 and len(made) == 3
