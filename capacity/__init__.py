"""The load generator: callers that cost little, and `rayrtc bench`, which finds out how many calls
a running deployment carries.

Callers make real sessions; their media is encoded beforehand and what comes back is looked at
after it was measured. Nothing here knows how a deployment is built: it speaks to it as clients do.
"""
