"""Visual questions from a build: facts about each picture become questions, answers, and thinking with regions."""
