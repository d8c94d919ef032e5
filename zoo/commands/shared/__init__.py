"""What all commands share: options, and the one place that prints."""
