"""What a model is built of: config, variables, layers, heads, precision, TensorFlow itself.

Stands on modeling alone.
"""
