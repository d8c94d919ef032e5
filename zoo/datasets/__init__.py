"""Data that several plugins train on. Importing this package imports nothing else."""
