"""Callers that cost little: real sessions, media encoded beforehand, nothing decoded meanwhile."""
