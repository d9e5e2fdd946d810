"""Between name-based checkpoints and transformers folders, with check and model card.

Stands on nn, weights and wordpieces.
"""
