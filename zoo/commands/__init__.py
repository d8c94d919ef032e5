"""The commands of `zoo`, one a file; each imports torch only when it runs."""
