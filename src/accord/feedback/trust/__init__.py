"""How far judgments can be trusted."""
