"""Masked examples in TFRecords: frames, encoding, decoding, sidecars.

Stands on data_prep's common; never imports TensorFlow.
"""
