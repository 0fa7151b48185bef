"""Helpers shared by the tests: models without TensorFlow, interpreters, an independent oracle."""
