"""What a model and a clip are to everything above: axes, layers, targets, memory, and what must stay as it was."""
