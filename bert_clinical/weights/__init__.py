"""Weights in files: checkpoints, safetensors, transformers folders, names, where they came from.

Stands on nn and wordpieces.
"""
