"""`python -m fedmq` is `fedmq`."""

from fedmq.cli import main

main()
