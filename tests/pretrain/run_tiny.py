"""Run one tiny pre-training in a process of its own: TOKENS TOKENIZER FOLDER THREADS SETTINGS-AS-JSON."""

import json
import sys
from pathlib import Path

import torch

from wellread.pretrain.loop import pretrain
from wellread.settings import ModelSettings, PretrainSettings

if __name__ == "__main__":
    tokens, tokenizer, folder, threads, settings = sys.argv[1:]
    torch.set_num_threads(int(threads))
    given = json.loads(settings)
    Path(folder).mkdir(exist_ok=True)
    pretrain(
        ModelSettings(**given["model"]),
        PretrainSettings(**given["pretrain"]),
        tokens=Path(tokens),
        tokenizer=Path(tokenizer),
        folder=Path(folder),
        seed=0,
        quiet=True,
    )
