#!/usr/bin/env bash
# 200 kill -9 at random moments of a whole run, mid-save included; the result goes to docs/results/kill-200.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python - "$work" <<'PY'
import sys
from pathlib import Path

sys.path.insert(0, "tests")
from synthetic import write_tiny_run

write_tiny_run(Path(sys.argv[1]) / "data")
PY
.venv/bin/python tests/killing.py "$work/data/tiny.toml" "$work/runs" --kills 200 --seed 2 > docs/results/kill-200.json
.venv/bin/python - <<'PY'
import json

result = json.load(open("docs/results/kill-200.json"))
kills = sum(len(run["kills"]) for run in result["runs"])
different = sum(run["identities"] != result["whole"] for run in result["runs"])
damaged = sum(bool(run["problems"] or run["leftovers"]) for run in result["runs"])
print(f"{kills} kills in {len(result['runs'])} runs: {different} runs differ, {damaged} are damaged")
PY
