"""The version: of the wheel, of the documents, of what is written into a model's card."""

__version__ = "0.2.0"
