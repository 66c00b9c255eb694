"""Checkpoints of other libraries: which folders are known, what their configurations mean, what tensors are called."""
