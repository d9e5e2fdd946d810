"""WordPieces: vocabularies, encoding of lines, a model's inputs.

Stands on tokenization; never imports TensorFlow.
"""
