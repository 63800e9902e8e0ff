"""Medical reasoning grounding: a question and an image in; reasoning, a box, two key points and a mask out."""

__version__ = "0.1.0"
