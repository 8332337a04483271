"""Write the tables of docs/recipes.md from the code.

python benchmarks/write_docs.py
"""

from __future__ import annotations

from pathlib import Path

from rb_smooth.config.reference import write_keys

if __name__ == "__main__":
    write_keys(Path(__file__).parents[1] / "docs" / "recipes.md")
