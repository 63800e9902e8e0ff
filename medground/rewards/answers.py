"""Answers to visual questions, read; `medground.answers` does it, for metrics too."""

from __future__ import annotations

from medground.answers import READ, chosen, plain, yes_or_no

__all__ = ["READ", "chosen", "plain", "yes_or_no"]
