"""Benchmarks: one file each; rows first, tables and plots afterwards."""
