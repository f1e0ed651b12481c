// The figures of a call: what getStats() reports, made readable.

import { $ } from "./elements.js";
import { shows } from "./stream.js";

/** The figures of a getStats() report; rates since `before`, the report's last reading. */
export function readStats(report, before) {
  const entries = [...report.values()];
  const kind = shows ? "video" : "audio";
  const find = (type) => entries.find((entry) => entry.type === type && entry.kind === kind) ?? {};
  const [inbound, outbound, remote] = ["inbound-rtp", "outbound-rtp", "remote-inbound-rtp"].map(find);
  const isUsed = (entry) => entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded";
  const pair = entries.find(isUsed) ?? {};
  const local = report.get(pair.localCandidateId);
  const far = report.get(pair.remoteCandidateId);
  const codec = report.get(inbound.codecId ?? outbound.codecId);
  const now = { time: performance.now(), in: inbound.bytesReceived, out: outbound.bytesSent };
  const rate = (way) => before && now[way] !== undefined
    ? `${((now[way] - (before[way] ?? 0)) * 8 / (now.time - before.time)).toFixed(0)} kbit/s` : undefined;
  const milliseconds = (seconds) => seconds === undefined ? undefined : `${(seconds * 1000).toFixed(0)} ms`;
  const { packetsLost: lost, packetsReceived: received } = inbound;
  const shown = {
    "packets-in": received,
    "packets-out": outbound.packetsSent,
    "bitrate-in": rate("in"),
    "bitrate-out": rate("out"),
    lost: lost === undefined ? undefined : `${lost} (${(100 * lost / Math.max(1, lost + received)).toFixed(1)} %)`,
    jitter: milliseconds(inbound.jitter),
    rtt: milliseconds(remote.roundTripTime ?? pair.currentRoundTripTime),
    codec: codec && `${codec.mimeType.split("/")[1]}, ${codec.clockRate / 1000} kHz`,
    path: local && far && `${local.candidateType} – ${far.candidateType}, ${local.protocol}`,
  };
  return { shown, now };
}

export function showStats(shown) {
  for (const cell of $("stats").querySelectorAll("[data-stat]")) cell.textContent = shown[cell.dataset.stat] ?? "–";
}
