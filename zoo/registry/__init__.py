"""Installed plugins, their models, and resolution of names."""
