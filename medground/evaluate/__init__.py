"""Measuring reasoners: ask once, write down everything, score and report from the files alone."""
