"""The page that `evaluate report` writes: its template, style and scripts, and what fills them."""
