"""Statistics: what a node's features say to a closed-form head, and the head that they give.

On frozen features the counts of the classes, the sums of their features and the Gram matrix are sufficient: a head
solved from their sums over nodes is the head of all features together, whoever came when. Each node sends them once.

    layout     what a node counts, and how a symmetric matrix lies in a vector
    forms      statistics to a payload and back: fp32, fp16, the largest eigenpairs
    bounds     what must be true of statistics, whoever sends them
    sums       their sum in fixed point: the same bits whatever the order, and subtraction is exact
    heads      sums to a head: class means, ridge towards the text features, the linear discriminant
    choice     the penalty that a left-out node would have chosen
    solve      one linear system, to the same bits on every machine
    pool       the rounds of it: a node's newest statistics replace its older ones, and a commit solves

One-shot federation on statistics: FedNCM (Legate et al. 2023, arXiv:2305.19404) sends class means, Fed3R (Fani et al.
2024, arXiv:2402.06300) the Gram matrix for ridge regression. The text prior and the rank-r form are ours.
"""
