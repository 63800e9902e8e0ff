"""Visual questions measured: asked, written into lines, scored, held to baselines, and reported by type of question."""
