// One call: devices, peer connection, messages, and its end.

import { $ } from "./elements.js";
import { messages, outputs } from "./entries.js";
import { watchLevel } from "./level.js";
import { constraintsFor, deviceName, deviceProblem } from "./media.js";
import { followOutputs } from "./outputs.js";
import { Problem, request } from "./requests.js";
import { readStats, showStats } from "./statistics.js";
import { State, setNotice, setState, showProblem } from "./status.js";
import { config, kinds, receives, sends, shows, sounds } from "./stream.js";

// Seconds
const CONNECT_TIMEOUT = 30;
const DRAIN_TIMEOUT = 60; // from `end_stream` to the end of playback
const END_TIMEOUT = 2; // from the close of the connection to its reason on the event stream

// Reasons of an `end` event: plain words, and whether something went wrong.
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
  expired: ["The server no longer knows the call.", true],
};

export const player = $(shows ? "reply-video" : "reply");

function connectionId() {
  if (crypto.randomUUID) return crypto.randomUUID(); // secure origins only
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One call from the click to its end. Whatever it opens is closed by `#finish`, its only exit. */
export class Call {
  id = connectionId();
  admitted = false;
  closed = false;
  #abort = new AbortController();
  #admit;
  #trickled = new Promise((resolve) => { this.#admit = resolve; });

  /** `inputs`: the form that is sent when the call begins and when the handler asks. */
  constructor(inputs) {
    this.inputs = inputs;
  }

  get signal() {
    return this.#abort.signal;
  }

  async start() {
    try {
      this.#checkBrowser();
      this.context = new AudioContext();
      this.#own(() => this.context.close());
      if (sends) await this.#openDevices();
      if (this.closed) return;
      setState(State.CONNECTING);
      const text = `No media connection within ${CONNECT_TIMEOUT} seconds. A firewall may block it.`;
      const timeout = new Problem("The call did not come up", text);
      this.deadline = this.#after(CONNECT_TIMEOUT, () => this.#finish(State.FAILED, timeout));
      const configuration = await request("rtc-configuration", this.signal);
      await this.#negotiate(this.#createPeer(configuration));
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem("The call could not be set up", error.message);
      this.#finish(State.FAILED, problem);
    }
  }

  hangUp() {
    this.#finish(State.IDLE);
  }

  #checkBrowser() {
    if (!window.RTCPeerConnection) {
      throw new Problem("This browser cannot place calls", "It has no WebRTC, or WebRTC is turned off.", { retry: false });
    }
    if (sends && !navigator.mediaDevices) {
      const name = deviceName(kinds);
      const text = `Browsers give the ${name} to pages over HTTPS or on localhost only. Open this page that way.`;
      const title = `The ${name} ${kinds.length > 1 ? "are" : "is"} not available here`;
      throw new Problem(title, text, { retry: false });
    }
  }

  async #openDevices() {
    setState(State.DEVICES);
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

  #createPeer(configuration) {
    const peer = new RTCPeerConnection(configuration);
    this.#own(() => peer.close());
    peer.onconnectionstatechange = () => this.#onConnectionState(peer.connectionState);
    peer.onicecandidate = ({ candidate }) => this.#trickle(candidate);
    peer.ontrack = ({ track }) => this.#play(track);
    const direction = !receives ? "sendonly" : sends ? "sendrecv" : "recvonly";
    for (const kind of kinds) {
      const track = this.captured?.getTracks().find((captured) => captured.kind === kind);
      peer.addTransceiver(track ?? kind, { direction });
    }
    const channel = peer.createDataChannel("text");
    channel.onmessage = ({ data }) => this.#onMessage(data);
    channel.onclose = () => this.#endWithin(END_TIMEOUT);
    let reading;
    const timer = setInterval(async () => {
      const { shown, now } = readStats(await peer.getStats(), reading);
      reading = now;
      if (!this.closed) showStats({ ...shown, duration: this.#duration() });
    }, 1000);
    this.#own(() => clearInterval(timer));
    return peer;
  }

  async #negotiate(peer) {
    await this.#setSenderParameters(peer);
    await peer.setLocalDescription();
    const { sdp, type } = peer.localDescription;
    const answer = await request("webrtc/offer", this.signal, { sdp, type, webrtc_id: this.id });
    if (this.closed) return;
    await peer.setRemoteDescription(answer);
    this.admitted = true;
    this.#admit();
    followOutputs(this.id, this.signal, (data) => this.#onEnd(data));
    this.inputs.send();
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

  /** Candidates go out in order, once the offer is answered: a refused call sends none. */
  #trickle(candidate) {
    if (candidate?.candidate === "") return; // Firefox: the null after it says the same
    const body = { type: "ice-candidate", webrtc_id: this.id, candidate: candidate?.toJSON() ?? null };
    this.#trickled = this.#trickled.then(async () => {
      try {
        if (!this.closed) await request("webrtc/offer", this.signal, body);
      } catch (problem) {
        if (!this.closed) messages.add("warning", `A network candidate was not taken: ${problem.message}`);
      }
    });
  }

  #onConnectionState(state) {
    if (this.closed) return;
    if (state === "connected") {
      clearTimeout(this.deadline);
      this.connectedAt ??= Date.now();
      if (!this.ending) setState(State.CONNECTED);
    } else if (state === "disconnected" && !this.ending) {
      setState(State.INTERRUPTED);
    } else if (state === "failed" && this.ending) {
      this.#endWithin(END_TIMEOUT);
    } else if (state === "failed") {
      const text = this.connectedAt ? "The network path to the media server was lost."
        : "No network path to the media server was found. A firewall or VPN may block it.";
      this.#finish(State.FAILED, new Problem("The media connection failed", text));
    }
  }

  /** Sound and picture share an element, which keeps them together. */
  async #play(track) {
    if (!receives) return;
    if (!this.reply) this.#show(player, this.reply = new MediaStream());
    this.reply.addTrack(track);
    if (track.kind === "audio") {
      this.#own(watchLevel(this.context, new MediaStream([track]), $("reply-level")));
    }
    try {
      await player.play();
    } catch (error) {
      if (error.name === "NotAllowedError" && !this.closed) $("play").hidden = false;
    }
  }

  #onMessage(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return messages.add("text", String(text));
    }
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
      this.#endWithin(DRAIN_TIMEOUT);
    } else if (type === "update_connection" && data === "closed") {
      this.endText = END_REASONS.server_closed[0];
      this.#endWithin(END_TIMEOUT);
    }
  }

  /** The server is closing: its event stream says why, after the last output. */
  #endWithin(seconds) {
    if (this.closed) return;
    this.ending = true;
    setState(State.ENDING);
    this.#after(seconds, () => {
      setNotice(this.endText ?? "The server ended the call.");
      this.#finish(State.ENDED);
    });
  }

  #onEnd(data) {
    let reason = data;
    try {
      reason = JSON.parse(data).reason ?? data;
    } catch { /* the bare word */ }
    const [text, failed] = END_REASONS[reason] ?? [`The call ended: ${reason}.`, false];
    outputs.add("end", text);
    if (failed) return this.#finish(State.FAILED, new Problem("The call has ended", text));
    setNotice(this.endText ?? text);
    this.#finish(State.ENDED);
  }

  #duration() {
    if (!this.connectedAt) return undefined;
    const seconds = Math.floor((Date.now() - this.connectedAt) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }

  #after(seconds, action) {
    const timer = setTimeout(() => { if (!this.closed) action(); }, seconds * 1000);
    this.#own(() => clearTimeout(timer));
    return timer;
  }

  /** `release` runs when the call ends, at once if it has ended. */
  #own(release) {
    if (this.closed) release();
    else this.signal.addEventListener("abort", release, { once: true });
  }

  #finish(state, problem) {
    if (this.closed) return;
    this.closed = true;
    this.admitted = false;
    this.#abort.abort();
    $("play").hidden = true;
    if (problem) {
      messages.add("error", `${problem.title}. ${problem.message}`);
      showProblem(problem);
    }
    setState(state);
  }
}
