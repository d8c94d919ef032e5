"""The sections that every report has."""
