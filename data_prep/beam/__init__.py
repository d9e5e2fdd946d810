"""What every pipeline of Apache Beam shares: flags, launch, steps, workers.

Stands on common.
"""
