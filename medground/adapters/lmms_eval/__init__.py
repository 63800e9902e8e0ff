"""A task folder for lmms-eval, ``--include_path .../medground/adapters/lmms_eval``; see docs/integrations.md."""
