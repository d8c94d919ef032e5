"""Commands of `explain`, one per file; each imports torch only when it runs."""
