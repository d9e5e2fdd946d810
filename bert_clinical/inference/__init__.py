"""What a model answers: vectors of texts, SavedModels.

Stands on nn, weights, wordpieces and modeling.
"""
