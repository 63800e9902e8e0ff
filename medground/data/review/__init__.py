"""People's review of question records: a page that serves them, and the decisions that come back.

`serve` shows the records of ``OUT/ask`` and appends what people decide to ``OUT/review.jsonl``; `read_decisions` and
`apply` bring the decisions into the assembled set.
"""

from __future__ import annotations

from medground.data.review.decisions import (
    REASONS,
    Decision,
    ReviewReport,
    apply,
    read_decisions,
    record_digest,
)
from medground.data.review.server import serve

__all__ = ["REASONS", "Decision", "ReviewReport", "apply", "read_decisions", "record_digest", "serve"]
