"""Part of kessel."""
