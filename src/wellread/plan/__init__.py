"""What a recipe would take, and what is wrong with it, before anything runs: ``wellread plan``."""
