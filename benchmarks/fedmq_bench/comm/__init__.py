"""Comm: what each codec costs and what it loses, in both directions, at four layers of bytes.

ladder      what is measured, and in which order; yields rows
layers      bytes of a real federation: goodput, application, transport, wire
learned     accuracy of real training against the bytes that it took
squeezed    one delta packed and unpacked: how large, how fast, how wrong, and what `theory` says
datasets    features that are trained on
curves      many runs of one kind: means, spreads, bytes to a target
table, plot what a person looks at
"""
