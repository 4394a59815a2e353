"""For all tests: how hypothesis draws."""

from __future__ import annotations

import os

from hypothesis import settings

# A slow machine is no error, and what CI says of a commit must not depend on chance; at home every run draws anew.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")
