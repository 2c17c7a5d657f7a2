"""How settings change over the steps."""
