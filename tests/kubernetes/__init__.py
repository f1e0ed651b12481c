"""The Helm chart: what it renders, against the schemas of Kubernetes and against the code."""
