"""The report of a run: one HTML page with plots, from its record, that opens anywhere without a network."""
