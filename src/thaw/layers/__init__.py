"""Which layers to freeze in a transfer: evidence from one trained run and one target corpus, before any transfer.

A predictor gives every layer but the heads a number; times its sign that is the harm that freezing the layer is
predicted to do. `predictors` lists them; `evidence` measures them all; the others hold one kind of measurement each.
"""
