"""Fine-tuning for classes of texts and for entities.

Stands on nn, weights, wordpieces, modeling and optimization.
"""
