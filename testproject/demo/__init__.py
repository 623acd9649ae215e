"""The demo's one app: a start page, and a scene for each use of Server-Sent Events."""
