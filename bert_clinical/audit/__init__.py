"""What a model has memorised of its training text: planted secrets, and whose notes it knows.

Stands on nn, weights, wordpieces and modeling, and on the canaries of data_prep.
"""
