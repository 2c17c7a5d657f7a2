"""Compare heads on the same tasks, splits, label budgets and seeds, from one checkpoint; resumable.

Every head gets the same learning rates to choose from; for each task and budget the rate with the best mean
on dev is shown.  Test scores play no part in any choice.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np

from wellread import files
from wellread.errors import RecipeError
from wellread.finetune import grid
from wellread.guard import guarded
from wellread.progress import say
from wellread.settings import FinetuneSettings
from wellread.tasks.known import read_known
from wellread.tasks.read import read_task, write_task
from wellread.workers import cores

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="checkpoint folder, with its tokenizer in it"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--heads", nargs="+", default=["classifier", "mlm"], choices=["classifier", "mlm", "lm"]
    )
    parser.add_argument("--data", type=Path, help="folder of the benchmarks' original files")
    parser.add_argument("--folders", nargs="+", type=Path, help="task folders instead of tasks.toml")
    parser.add_argument("--like", help="task of tasks.toml whose template the folders take")
    parser.add_argument("--tasks", nargs="+", help="some tasks of tasks.toml; default all five")
    parser.add_argument("--budgets", nargs="+", default=["0", "32", "100", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--threads", type=int, default=cores(), help="runs side by side")
    parser.add_argument("--set", default="{}", help='more of [finetune] as JSON, e.g. {"epochs": 5}')
    given = parser.parse_args()
    if not given.data and not given.folders:
        parser.error("give --data, or task folders with --folders")
    return given


def tasks_of(given: argparse.Namespace) -> dict[str, tuple[Path, dict]]:
    """Task folder and [finetune.answer] of each task."""
    told = tomllib.loads((HERE / "tasks.toml").read_text("utf-8"))
    if given.folders:
        asked = (
            {key: value for key, value in told[given.like].items() if key in ("template", "words")}
            if given.like
            else {}
        )
        return {folder.name: (folder, asked) for folder in given.folders}
    found = {}
    for name in given.tasks or told:
        folder = given.out / "tasks" / name
        if not (folder / "task.toml").exists():
            write_task(read_known(told[name]["known"], given.data / told[name]["path"], name), folder)
        found[name] = (folder, {key: told[name][key] for key in ("template", "words") if key in told[name]})
    return found


def run(given: argparse.Namespace) -> list[dict]:
    """All runs; what is done is not done again.  Returns one record a task, head, budget and rate."""
    more, records = json.loads(given.set), []
    budgets = [budget if budget == "all" else int(budget) for budget in given.budgets]
    for name, (folder, answer) in tasks_of(given).items():
        for head in given.heads:
            for rate in given.rates:
                out = given.out / "runs" / head / f"{rate:g}" / name
                settings = FinetuneSettings(
                    **{
                        **more,
                        "head": head,
                        "answer": answer,
                        "learning_rate": rate,
                        "seeds": tuple(range(given.seeds)),
                    }
                )
                own = [budget for budget in budgets if budget != 0 or head != "classifier"]
                try:
                    grid.run(
                        grid.Job(
                            folder,
                            given.model,
                            given.model,
                            settings,
                            own,
                            out,
                            task_name=name,
                            model_name=head,
                            start_name="pretrained",
                        ),
                        threads=given.threads,
                    )
                except RecipeError as error:
                    say(f"{name}, {head}: {error}")
                    continue
                units = [files.read_json(path / "result.json") for path in sorted((out / "units").iterdir())]
                metric = read_task(folder).metric
                for budget in dict.fromkeys(unit["budget"] for unit in units):
                    same = [unit for unit in units if unit["budget"] == budget]
                    records.append(
                        {
                            "task": name,
                            "head": head,
                            "rate": rate,
                            "budget": budget,
                            "metric": metric,
                            "dev": float(np.mean([unit["dev"][metric] for unit in same])),
                            "test": {key: [unit["test"][key] for unit in same] for key in same[0]["test"]},
                            "failed": sum(unit["failed"] for unit in same),
                        }
                    )
    return records


def table(records: list[dict]) -> str:
    """Markdown: the rate that is best on dev for each task, head and budget."""
    best: dict[tuple, dict] = {}
    for one in records:
        key = (one["task"], str(one["budget"]), one["head"])
        if key not in best or one["dev"] > best[key]["dev"]:
            best[key] = one
    lines = [
        "| task | labels | head | rate | dev | test, mean ± std over seeds | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for (task, budget, head), one in best.items():
        scores = ", ".join(
            f"{name} {100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=len(values) > 1):.1f}"
            for name, values in one["test"].items()
        )
        lines.append(
            f"| {task} | {budget} | {head} | {one['rate']:g} | {100 * one['dev']:.1f} | {scores} "
            f"| {len(next(iter(one['test'].values())))} |"
        )
    return "\n".join(lines)


def main() -> None:
    given = arguments()
    records = run(given)
    if not records:
        raise RecipeError("no head could be tried", where="--heads", fix="see why above")
    files.write_json(given.out / "records.json", records)
    text = table(records)
    (given.out / "table.md").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    guarded(main)
