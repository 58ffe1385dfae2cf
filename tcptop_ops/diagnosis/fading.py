"""How a score falls once its cause is over."""

HALVED_IN_S = 10.0
"""Half-life of a score whose cause no longer matches."""

FADED = 5.0
"""Score below which a cause that no longer matches is dropped."""
