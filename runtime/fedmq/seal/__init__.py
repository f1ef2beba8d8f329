"""Sealing: frames that whoever carries them can neither read nor alter nor replay. Pure: bytes in, bytes out.

Both ends have Curve25519 pairs, the same as for CURVE, and know each other's public half. What a carrier sees:

    open        "fms" 1  node's public key (32)  nonce (24)  box(e_n)
    accept      "fms" 2  nonce (24)  box(e_n, e_a, verify key, group number, group key)
    up          "fms" 3  session (8)  number (8)  sealed frame
    down        "fms" 4  session (8)  number (8)  sealed frame
    group key   "fms" 5  session (8)  number (8)  sealed group number (8) and key (32)
    broadcast   "fms" 6  group (8)  number (8)  signature (64)  sealed frame
    unknown     "fms" 7  session (8)

`box` is NaCl's, between the long-lived keys. e_n and e_a are the public halves of pairs that both ends draw for this
session; its keys come of these alone (crypto_kx), one per direction, and die with either process. So what was recorded
yesterday opens for nobody today. `sealed` is XChaCha20-Poly1305 with the number of the frame as nonce and the header as
associated data; a number is used once, and taken once.

A broadcast is sealed once for all with the group key, and signed with a key that the aggregator draws per process and
hands over in the accept: every node can open it, only the aggregator can have made it. The signature stands for the
digest of what is sealed, because Ed25519 reads what it signs twice.
"""
