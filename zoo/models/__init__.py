"""From an entry to a module, and what can be asked of one."""
