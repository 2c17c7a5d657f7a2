"""More training examples from few: a generator on this machine writes them, strict checks let them in."""
