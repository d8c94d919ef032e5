"""The sections of a comparison; each builds from one `Subject` a model."""
