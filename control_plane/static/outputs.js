// The outputs of a call, read from its event stream.

import { messages, outputs } from "./entries.js";
import { base } from "./stream.js";

const RETRY_MAX = 15; // seconds

/**
 * Lists the outputs of a connection until `signal` aborts; `onEnd` gets the data of their end.
 * EventSource resumes by itself; where it gives up (an answer other than 200) it is opened anew.
 */
export function followOutputs(id, signal, onEnd) {
  let cursor = "";
  let retry = 1; // seconds
  let source;
  let timer;

  function open() {
    const url = new URL("outputs", base);
    url.searchParams.set("webrtc_id", id);
    if (cursor) url.searchParams.set("last_event_id", cursor);
    source = new EventSource(url);
    source.onopen = () => { retry = 1; };
    source.addEventListener("output", ({ data, lastEventId }) => {
      cursor = lastEventId;
      const values = JSON.parse(data);
      outputs.add("", values.map((value) => typeof value === "string" ? value : JSON.stringify(value)).join("\n"));
    });
    source.addEventListener("gap", () => {
      outputs.add("gap", "Some outputs are missing here: the server no longer has them.");
    });
    source.addEventListener("end", ({ data }) => onEnd(data));
    source.onerror = () => {
      if (signal.aborted) return;
      messages.add("warning", "The outputs were interrupted; they are taken up where they stopped.");
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, retry * (0.5 + Math.random() / 2) * 1000);
      retry = Math.min(2 * retry, RETRY_MAX);
    };
  }

  if (signal.aborted) return;
  open();
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    source.close();
  }, { once: true });
}
