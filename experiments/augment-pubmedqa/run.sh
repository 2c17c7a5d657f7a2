#!/bin/sh
# Augment PubMedQA with a local generator, then fine-tune on every arm with the same settings and seeds.
#   run.sh GENERATOR CHECKPOINT DATA OUT [HEAD]
# GENERATOR: a GGUF file or a transformers folder; CHECKPOINT: what is fine-tuned; DATA: folder of ori_pqal.json and
# test_ground_truth.json; HEAD: classifier (default), mlm or lm.
set -eu
here=$(dirname "$0")
wellread augment "$3" --known pubmedqa --generator "$1" --out "$4" --copies 1
python "$here/../heads/run.py" --model "$2" --out "$4/comparison" --heads "${5:-classifier}" \
    --folders "$4"/tasks/* --like pubmedqa --budgets all --seeds 5
python "$here/tfidf.py" "$4/tasks"
