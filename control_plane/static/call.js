// One call as the page shows it: devices, the connection, messages, and its end.

import { $ } from "./elements.js";
import { messages, outputs } from "./entries.js";
import { watchLevel } from "./level.js";
import { constraintsFor, deviceName, deviceProblem } from "./media.js";
import { Problem, problemOf } from "./problems.js";
import { Connection, State } from "./rayrtc.js";
import { readStats, showStats } from "./statistics.js";
import { DEVICES, hideProblem, setNotice, setState, showProblem } from "./status.js";
import { base, config, kinds, receives, sends, shows, sounds } from "./stream.js";

// Reasons of a loss or an end: plain words, and whether something went wrong.
const END_REASONS = {
  client_closed: ["The call was closed from this side.", false],
  server_closed: ["The server closed the call.", false],
  handler_closed: ["The stream has come to its end.", false],
  time_limit: ["The time limit of a call was reached.", false],
  replaced: ["A newer call took the place of this one.", false],
  handler_error: ["The program behind the stream failed.", true],
  connect_timeout: ["The media connection did not come up in time.", true],
  ice_failed: ["The network path to the media server was lost.", true],
  refused: ["The media server refused the call.", true],
  worker_lost: ["The media server that carried the call stopped working.", true],
  out_of_memory: ["The media server that carried the call ran out of memory.", true],
  worker_stopped: ["The media server that carried the call was shut down.", true],
  drained: ["The media server that carried the call is being replaced.", true],
  expired: ["The server no longer knows the call.", true],
};

export const player = $(shows ? "reply-video" : "reply");

/** One call from the click to its end. Whatever it opens is closed by `#finish`, its only exit. */
export class Call {
  closed = false;
  #abort = new AbortController();
  #played = new Map(); // by kind: the track and what ends its meter

  /** `inputs`: the form that is sent when the call begins and when the handler asks. */
  constructor(inputs) {
    this.inputs = inputs;
  }

  async start() {
    try {
      this.#checkBrowser();
      this.context = new AudioContext();
      this.#own(() => this.context.close());
      if (sends) await this.#openDevices();
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem("The call could not be set up", error.message);
      this.#finish(State.FAILED, problem);
    }
    if (!this.closed) this.#connect();
  }

  hangUp() {
    this.#finish(State.IDLE);
  }

  #checkBrowser() {
    if (!window.RTCPeerConnection) {
      const text = "It has no WebRTC, or WebRTC is turned off.";
      throw new Problem("This browser cannot place calls", text, { retry: false });
    }
    if (sends && !navigator.mediaDevices) {
      const name = deviceName(kinds);
      const text = `Browsers give the ${name} to pages over HTTPS or on localhost only. Open this page that way.`;
      const title = `The ${name} ${kinds.length > 1 ? "are" : "is"} not available here`;
      throw new Problem(title, text, { retry: false });
    }
  }

  async #openDevices() {
    setState(DEVICES);
    try {
      this.captured = await navigator.mediaDevices.getUserMedia(constraintsFor(kinds, config.track_constraints));
    } catch (error) {
      throw new Problem(...deviceProblem(error, kinds));
    }
    for (const track of this.captured.getTracks()) {
      this.#own(() => track.stop());
      track.onended = () => messages.add("warning", `The ${deviceName([track.kind])} was disconnected.`);
    }
    if (this.closed) return;
    if (sounds) this.#own(watchLevel(this.context, this.captured, $("mic-level")));
    if (shows) this.#show($("preview"), this.captured);
  }

  #show(element, stream) {
    element.srcObject = stream;
    this.#own(() => { element.srcObject = null; });
  }

  #connect() {
    this.connection = new Connection({
      url: base,
      media: this.captured,
      receive: receives ? kinds : [],
      onstate: (state, detail) => this.#onState(state, detail),
      onsession: (again) => {
        if (again) messages.add("state", "The call is back; the program behind it has started anew.");
        else this.inputs.send();
      },
      onpeer: (peer) => this.#setSenderParameters(peer),
      ontrack: (track) => this.#play(track),
      onmessage: (message) => this.#onMessage(message),
      onoutput: (values) => {
        outputs.add("", values.map((value) => typeof value === "string" ? value : JSON.stringify(value)).join("\n"));
      },
      ongap: () => outputs.add("gap", "Some outputs are missing here: the server no longer has them."),
      onwarning: (text) => messages.add("warning", text),
    });
    this.#own(() => this.connection.close());
    this.#watchStatistics();
    this.connection.connect();
  }

  #watchStatistics() {
    let reading;
    const timer = setInterval(async () => {
      const { peer } = this.connection;
      if (!peer) return;
      const { shown, now } = readStats(await peer.getStats(), reading?.peer === peer ? reading : undefined);
      reading = { ...now, peer };
      if (!this.closed) showStats({ ...shown, duration: this.#duration() });
    }, 1000);
    this.#own(() => clearInterval(timer));
  }

  /** The stream's `rtp_params` are members of RTCRtpSendParameters that replace the browser's. */
  async #setSenderParameters(peer) {
    if (!config.rtp_params) return;
    for (const sender of peer.getSenders().filter(({ track }) => track)) {
      try {
        await sender.setParameters({ ...sender.getParameters(), ...config.rtp_params });
      } catch (error) {
        messages.add("warning", `The browser does not take the stream's rtp_params: ${error.message}`);
      }
    }
  }

  #onState(state, { reason, error, attempt }) {
    if (this.closed) return;
    if (state === State.RECONNECTING) {
      const text = END_REASONS[reason]?.[0] ?? `The call was lost: ${reason}.`;
      if (error) messages.add("warning", `${problemOf(error).title}.`);
      else messages.add("warning", text);
      hideProblem();
      setNotice(`${text} The call is being brought back.`);
      setState(state, `Reconnecting (try ${attempt})…`);
    } else if (state === State.FAILED) {
      this.#onFailed(reason, error);
    } else if (state === State.ENDED) {
      this.#onEnded(reason);
    } else {
      if (state === State.CONNECTED) {
        this.connectedAt ??= Date.now();
        this.endText = undefined;
        setNotice("");
      }
      setState(state);
    }
  }

  /** A call that did not come up, or that did not come back. */
  #onFailed(reason, error) {
    const problem = error ? problemOf(error) : new Problem("The call has ended", END_REASONS[reason]?.[0] ?? reason);
    setNotice(reason ? `${END_REASONS[reason]?.[0] ?? reason} The call did not come back.` : "");
    this.#finish(State.FAILED, problem);
  }

  #onEnded(reason) {
    if (reason === undefined) {
      setNotice(this.endText ?? "The server ended the call.");
      return this.#finish(State.ENDED);
    }
    const [text, failed] = END_REASONS[reason] ?? [`The call ended: ${reason}.`, false];
    outputs.add("end", text);
    if (failed) return this.#finish(State.FAILED, new Problem("The call has ended", text));
    setNotice(this.endText ?? text);
    this.#finish(State.ENDED);
  }

  /** Sound and picture share an element, which keeps them together; a call that is back has new ones. */
  async #play(track) {
    if (!receives || this.closed) return;
    if (!this.reply) this.#show(player, this.reply = new MediaStream());
    const before = this.#played.get(track.kind);
    if (before) this.reply.removeTrack(before.track);
    before?.unwatch();
    this.reply.addTrack(track);
    const unwatch = track.kind === "audio"
      ? watchLevel(this.context, new MediaStream([track]), $("reply-level")) : () => {};
    this.#played.set(track.kind, { track, unwatch });
    this.#own(unwatch);
    try {
      await player.play();
    } catch (error) {
      if (error.name === "NotAllowedError" && !this.closed) $("play").hidden = false;
    }
  }

  #onMessage(message) {
    if (typeof message === "string") return messages.add("text", message);
    const { type, data } = message ?? {};
    const said = typeof data === "string" ? data : JSON.stringify(data) ?? "";
    messages.add(String(type), said === "[]" ? "" : said);
    if (type === "send_input") {
      $("inputs-card").hidden = this.inputs.fields.length === 0;
      this.inputs.send();
    } else if (type === "error") {
      showProblem(new Problem("The stream reports an error", said, { retry: false }));
    } else if (type === "end_stream") {
      this.endText = said;
    } else if (type === "update_connection" && data === "closed") {
      this.endText = END_REASONS.server_closed[0];
    }
  }

  #duration() {
    if (!this.connectedAt) return undefined;
    const seconds = Math.floor((Date.now() - this.connectedAt) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }

  /** `release` runs when the call ends, at once if it has ended. */
  #own(release) {
    if (this.closed) release();
    else this.#abort.signal.addEventListener("abort", release, { once: true });
  }

  #finish(state, problem) {
    if (this.closed) return;
    this.closed = true;
    this.#abort.abort();
    $("play").hidden = true;
    if (problem) {
      messages.add("error", `${problem.title}. ${problem.message}`);
      showProblem(problem);
    }
    setState(state);
  }
}
