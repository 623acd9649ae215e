"""The demo's one app: articles, notes to one user, and a simulated market."""
