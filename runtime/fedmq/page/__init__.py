"""The live page: a run as it goes, for a browser. Read-only; loaded only where somebody asked for it."""
