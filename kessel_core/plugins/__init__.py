"""Finding plugins, loading each alone, and what they offer to one application."""
