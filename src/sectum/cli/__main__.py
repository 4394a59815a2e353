"""``python -m sectum.cli``: the same as ``sectum``."""

from __future__ import annotations

from sectum.cli.main import main

if __name__ == "__main__":
    main()
