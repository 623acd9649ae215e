"""The migrations of this package's models."""
