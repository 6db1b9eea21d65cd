"""The configuration: its options, the layers that set them, and how values may be shown."""
