"""Clinical notes to pretraining text. Knows no TensorFlow and nothing of `bert_clinical`."""
