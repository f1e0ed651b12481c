"""What control plane and workers share: typed messages, the registry, the relay."""
