"""Outputs on their way from a worker to any number of readers in any process."""

from rayrtc.cluster.output_hub import OutputHub
from rayrtc.cluster.output_reader import Gap, Heartbeat
from rayrtc.cluster.output_writer import OutputWriter, append_end, append_lost

__all__ = ["Gap", "Heartbeat", "OutputHub", "OutputWriter", "append_end", "append_lost"]
