"""The project whose pages the browser tests open."""
