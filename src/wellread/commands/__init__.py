"""Commands on a recipe, a run, a model or data; those of one part stand in its folder's command.py."""
