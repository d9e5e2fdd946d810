"""More entries in a model's vocabulary, for the words of one's own notes.

Stands on nn, weights, wordpieces and tokenization.
"""
