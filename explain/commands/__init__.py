"""The commands of `explain`, one a file; each imports torch only when it runs."""
