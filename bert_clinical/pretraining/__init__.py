"""Training and evaluation on masked examples: batches, steps, the run's folder.

Stands on nn, weights, tfrecords, modeling and optimization.
"""
