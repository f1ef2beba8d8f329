"""The federation core: messages, sessions, rounds, folding and the ledger. Never torch, never onnxruntime."""
