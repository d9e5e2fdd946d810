"""Pretraining text to masked examples, exactly as Google's program makes them.

Stands on wordpieces, tfrecords and data_prep's common and beam.
"""
