"""Computing on several replicas and workers, and random numbers that do not depend on them."""
