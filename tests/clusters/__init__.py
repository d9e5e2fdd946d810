"""Proofs on real engines: Flink, Spark and Prism, on nodes of one machine."""
