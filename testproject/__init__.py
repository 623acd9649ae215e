"""The demo project: one live page, served by daphne, that shows what django_sse does."""
