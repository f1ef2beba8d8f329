"""Accuracy: what each way to learn reaches, where, and how many bytes that takes.

    corpora     features with labels, whose they are, and which encoder gave them
    folds       who has which of them: a node per domain or many with skewed labels, train, validation and test apart
    ways        the ways to learn, by name
    watched     a federation whose test splits its nodes do not know
    closed      penalty and text weight of a head in closed form, by validation
    plain       the published loop of FedCLIP in plain PyTorch, to be held against
    results     what one way reached in one fold, as a row
    table       rows of several folds and seeds as one line each
    plot        accuracy against bytes up

Nothing is chosen on test data: rounds, learning rates, penalties and text weights are those that are best on the
participants' validation splits, and a held-out domain has no say at all.
"""
