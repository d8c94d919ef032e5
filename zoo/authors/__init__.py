"""For authors of plugins: scaffolding and the conformance suite."""
