"""The number of examples of a property. Importing this module loads it."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "skald",
    max_examples=100,
    deadline=None,  # real servers on a shared machine
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("skald")
