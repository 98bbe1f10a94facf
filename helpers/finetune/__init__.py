"""Fine-tune a model with QLoRA: data and its checks, labels, a plain loop, adapters, deployment.

`support` is the behavior that notebook 09 teaches, with its data and its scorer. `data` reads and
checks a training file, `labels` says which tokens are learned, `loop` trains, `adapters` saves and
loads what was trained, and `deploy` merges it. `helpers.model.training` plans the memory.
"""
