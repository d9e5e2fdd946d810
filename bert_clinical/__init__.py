"""Pretraining BERT on clinical text: examples, model, training, conversion."""

__version__ = "0.1.0"
