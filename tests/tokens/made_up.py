"""Made-up texts for the tests of this folder."""

import numpy as np


def made_up_texts(count, seed=0, longest=80):
    """Texts of made-up words with punctuation, numbers, capitals, accents and line breaks."""
    random = np.random.default_rng(seed)
    roots = [
        "hepat",
        "cardi",
        "neur",
        "gastr",
        "ost",
        "derm",
        "nephr",
        "haem",
        "naïv",
        "Ödem",
        "β-carot",
        "IL-6",
    ]
    ends = ["itis", "oma", "osis", "opathy", "ic", "al", "ology", "ectomy", "en", ""]
    glue = [" ", " ", " ", " ", ", ", ". ", " (", ") ", "\n", "  ", " +/- ", " 12.5% "]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(int(random.integers(1, longest))):
            parts += [roots[random.integers(len(roots))] + ends[random.integers(len(ends))]]
            parts += [glue[random.integers(len(glue))]]
        texts.append("".join(parts))
    return texts
