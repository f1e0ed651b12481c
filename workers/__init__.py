"""The Ray side of rayrtc: the worker pool, the media workers, their connections and media."""
