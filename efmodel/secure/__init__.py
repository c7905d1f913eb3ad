"""Secure aggregation of partial updates: what client and server compute, without messages.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017),
with one change for models that are cut: the tensors of one owner exit are a *block*, and each block
has masks of its own, among the clients that hold it.
"""
