"""Options and output shared by all commands."""
