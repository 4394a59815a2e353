"""``python -m sectum.lab.sgx``: write the report, or a profile with its constants fitted anew, to standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sectum.lab.sgx.fit import PLATFORMS, fitted_profile
from sectum.lab.sgx.report import markdown


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m sectum.lab.sgx", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--markdown", action="store_true", help="the report, as docs/sgx-profile.md holds it")
    choice.add_argument("--profile", choices=tuple(PLATFORMS), help="its JSON, for enclave/profiles/")
    chosen = parser.parse_args(arguments)
    sys.stdout.write(markdown() if chosen.markdown else fitted_profile(chosen.profile).to_text())


if __name__ == "__main__":
    main()
