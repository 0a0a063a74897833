"""Hypothesis profiles: `ci` draws the same examples on every run, `thorough` fresh ones."""

import os

from hypothesis import HealthCheck, settings

collect_ignore_glob = ["golden/make_*.py"]  # scripts that need PyTorch

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=500,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
