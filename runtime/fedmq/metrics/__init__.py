"""Metrics: what Prometheus may ask of an aggregator or a node. Loaded only where somebody asked for them."""
