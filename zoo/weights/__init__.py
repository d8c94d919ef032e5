"""From an entry's source to a verified file on this machine."""
