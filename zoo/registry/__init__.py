"""What is installed: plugins, their models, and what a name resolves to."""
