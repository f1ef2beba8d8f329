"""What holds for all tests."""

import os

# What a process writes into a pipe must be there at once without it: a person's shell does not set it.
os.environ.pop("PYTHONUNBUFFERED", None)
