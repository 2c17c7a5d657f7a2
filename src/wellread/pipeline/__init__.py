"""The stages of a recipe: what each reads, what it depends on, which function does it."""
