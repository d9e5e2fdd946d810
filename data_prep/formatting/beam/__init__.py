"""The same on Apache Beam.

Nothing but the program that chooses it imports it.
"""
