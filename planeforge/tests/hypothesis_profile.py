"""Settings of every test: hypothesis as on CI, with fewer examples where a test does not say how many."""

from hypothesis import settings

settings.register_profile("ci", settings.get_profile("ci"), max_examples=60)
