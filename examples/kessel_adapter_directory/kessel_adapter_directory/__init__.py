"""An adapter for kessel that keeps jobs in a directory of files."""
