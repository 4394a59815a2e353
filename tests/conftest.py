"""For all tests: how hypothesis draws."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# A slow machine is no error, and what CI says of a commit must not depend on chance; at home every run draws anew.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

# A suite started in the background of a script inherits that Ctrl-C is ignored, and so would what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
