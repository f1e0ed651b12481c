// A connection to a stream: its offer, its media, inputs and outputs, and its way back after a loss.
// It knows the public HTTP contract and no page. docs/reconnect.md shows how to use it.

export const State = Object.freeze({
  IDLE: "idle",
  CONNECTING: "connecting",
  CONNECTED: "connected",
  INTERRUPTED: "interrupted", // no media for a moment, which may pass
  RECONNECTING: "reconnecting",
  ENDING: "ending", // the server is closing
  ENDED: "ended",
  FAILED: "failed",
});

// Seconds
const REQUEST_TIMEOUT = 15;
const CONNECT_TIMEOUT = 30; // from `connect` to media
const TRY_TIMEOUT = 15; // the same for each try to reconnect
const DISCONNECTED_TIMEOUT = 5; // without media, until it counts as lost
const DRAIN_TIMEOUT = 60; // from `end_stream` to the end of playback
const END_TIMEOUT = 3; // from the close of the channel to its reason on the event stream
const CLOSED_TIMEOUT = 8; // the same where the server said that it closes: its handler may take its time
const DELAY = { first: 0.5, most: 15 }; // before a try, doubled each time, less a random part
const TIME = 120; // from the loss to the last try
const STABLE = 60; // connected for so long, after which a loss is a new one
const OUTPUTS_DELAY = { first: 1, most: 15 };

const TRIES = 10;

// Ends that nobody meant: another worker takes the call.
const LOST = new Set([
  "worker_lost", "worker_stopped", "out_of_memory", "drained", "ice_failed", "connect_timeout", "expired",
]);
// Of these, what a client has that was never connected: no other worker would help it.
const UNREACHABLE = new Set(["ice_failed", "connect_timeout"]);
// Ends that count while a try is under way; the others are those of sessions that are given up.
const MEANT = new Set(["server_closed", "handler_closed", "handler_error", "time_limit", "replaced"]);

/** Why a connection could not be made. `status` is 0 where no server answered. */
export class ConnectionError extends Error {
  /** `code` is the contract's, or `unreachable`, `timeout`, `connect_timeout`, `ice_failed`. */
  constructor(code, { status = 0, message = code, limit, retryAfter = 0, fields } = {}) {
    super(message);
    Object.assign(this, { name: "ConnectionError", code, status, limit, retryAfter, fields });
  }

  /**
   * Whether a later try may do better. 409 is one of them: the answer to the try before may have
   * been lost on its way, and the server gives up on a session that nobody connects to.
   */
  get passes() {
    return this.status === 0 || this.status >= 500 || [408, 409].includes(this.status);
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const { error, limit, detail } = body.meta ?? {};
  const after = Number(response.headers.get("Retry-After"));
  return new ConnectionError(error ?? `status_${response.status}`, {
    status: response.status,
    message: detail || undefined,
    limit,
    retryAfter: Number.isFinite(after) ? after : 0,
    fields: response.status === 422 ? body.detail : undefined,
  });
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID(); // secure origins only
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function jittered(seconds) {
  return seconds * (0.5 + Math.random() / 2);
}

/** One offer and its peer connection; `close` ends it. */
class Session {
  admitted = false; // the server has answered and has it still, as far as is known
  hasConnected = false;
  closing = false; // the server has said so
  #abort = new AbortController();

  constructor(signal) {
    this.signal = AbortSignal.any([signal, this.#abort.signal]);
    this.connected = new Promise((resolve, reject) => Object.assign(this, { settle: resolve, fail: reject }));
    this.connected.catch(() => {}); // nobody may wait for it any more
    this.trickled = new Promise((resolve) => { this.admit = resolve; });
  }

  get closed() {
    return this.signal.aborted;
  }

  close() {
    this.#abort.abort();
  }

  /** `release` runs when the session ends, at once if it has ended. */
  own(release) {
    if (this.closed) release();
    else this.signal.addEventListener("abort", release, { once: true });
  }
}

/** A client's connection to a stream, from `connect` to `close` or to an end that was meant. */
export class Connection {
  state = State.IDLE;
  peer = null; // RTCPeerConnection of the newest session
  #options;
  #base;
  #inputs;
  #abort = new AbortController();
  #session = null;
  #cursor = "";
  #tries = 0;
  #connectedAt = null;
  #reconnecting = false;
  #wake = null; // ends the pause before a try
  #timer; // of a state that must not last

  /**
   * All options may be left out.
   *
   * url: where the stream is mounted; else where this module is from.
   * media: MediaStream whose tracks are sent.
   * receive: kinds that are received, `["audio", "video"]`; else those that are sent, or audio.
   * inputs: object that the handler gets when the connection is there.
   * reconnect: false, to be told of a loss only.
   * id, token: those of a Connection elsewhere that this one is to take the place of.
   * onstate(state, detail): `detail` has `reason` of a loss or an end (a word of the contract),
   *   `error` (ConnectionError), and when reconnecting `attempt`, `attempts` and `delay` in seconds.
   * onsession(again): the server has taken the connection, or has taken it again.
   * onpeer(peer): a peer connection is about to offer; may return a promise.
   * ontrack(track): media that is received; again after each loss, in place of the one before.
   * onmessage(message): `{type, data}`, or a text that is none.
   * onoutput(args, id), ongap(): the handler's outputs, each once; some were trimmed away.
   * onwarning(text): something failed and does not end the connection.
   */
  constructor(options = {}) {
    const { url, id, token = "", inputs } = options;
    const from = globalThis.location?.href ?? import.meta.url;
    this.#base = url ? new URL(String(url).replace(/\/*$/, "/"), from) : new URL(".", import.meta.url);
    this.#options = options;
    this.#inputs = inputs;
    this.id = id ?? newId();
    this.token = token;
  }

  /** Begin. What comes of it is told to `onstate`. */
  async connect() {
    if (this.state !== State.IDLE) throw new Error("a Connection connects once");
    this.#set(State.CONNECTING);
    try {
      await this.#open(CONNECT_TIMEOUT);
      this.#arrived();
    } catch (error) {
      if (!this.#reconnecting) this.#finish(State.FAILED, { error });
    }
  }

  /** Give the handler inputs, now or, as far as the connection is not there, when it is. */
  async send(inputs) {
    this.#inputs = inputs;
    if (this.admitted) await this.#request("input_hook", this.#session.signal, { webrtc_id: this.id, ...inputs });
  }

  close() {
    this.#finish(State.ENDED, { reason: "client_closed" });
  }

  /** Whether the server has the connection. */
  get admitted() {
    return Boolean(this.#session?.admitted && !this.#session.closed);
  }

  get #over() {
    return this.#abort.signal.aborted;
  }

  /** GET, or POST when there is a body. Throws a ConnectionError for anything but a 2xx answer. */
  async #request(path, signal, body, headers = {}) {
    const options = { signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT * 1000)]) };
    if (body !== undefined) {
      headers = { "Content-Type": "application/json", ...headers };
      Object.assign(options, { method: "POST", body: JSON.stringify(body), headers });
    }
    let response;
    try {
      response = await fetch(new URL(path, this.#base), options);
      if (response.ok) return { body: await response.json(), headers: response.headers };
    } catch (error) {
      throw new ConnectionError(error.name === "TimeoutError" ? "timeout" : "unreachable");
    }
    throw await refusal(response);
  }

  /** One offer, in place of the session that is there. Resolves when its media flows. */
  async #open(seconds) {
    const session = new Session(this.#abort.signal);
    const timer = setTimeout(() => session.fail(new ConnectionError("connect_timeout")), seconds * 1000);
    try {
      await Promise.race([this.#negotiate(session).then(() => session.connected), session.connected]);
    } catch (error) {
      // one that was answered keeps its place on the server until the next takes it
      if (this.#session !== session) session.close();
      throw error instanceof ConnectionError ? error : new ConnectionError("failed", { message: error.message });
    } finally {
      clearTimeout(timer);
    }
  }

  async #negotiate(session) {
    const { body: configuration } = await this.#request("rtc-configuration", session.signal);
    const peer = this.#createPeer(session, configuration);
    await this.#options.onpeer?.(peer);
    await peer.setLocalDescription();
    const { sdp, type } = peer.localDescription;
    const headers = this.token ? { "Resume-Token": this.token } : {};
    const offer = { sdp, type, webrtc_id: this.id };
    const { body: answer, headers: told } = await this.#request("webrtc/offer", session.signal, offer, headers);
    if (session.closed) return;
    this.token = told.get("Resume-Token") ?? "";
    const again = this.#session !== null;
    this.#session?.close();
    this.#session = session;
    this.peer = peer;
    await peer.setRemoteDescription(answer);
    if (session.closed) return;
    session.admitted = true;
    session.admit();
    this.#follow();
    this.#begin(session, again);
  }

  /** The handler of a new session knows nothing yet. */
  async #begin(session, again) {
    await this.#sendLast(session);
    if (!session.closed) this.#options.onsession?.(again);
  }

  async #sendLast(session) {
    try {
      if (this.#inputs) await this.send(this.#inputs);
    } catch (error) {
      if (!session.closed) this.#warn(`The inputs were not taken: ${error.message}`);
    }
  }

  #createPeer(session, configuration) {
    const { media, receive, ontrack } = this.#options;
    const peer = session.peer = new RTCPeerConnection(configuration);
    session.own(() => peer.close());
    peer.onconnectionstatechange = () => this.#onPeerState(session);
    peer.onicecandidate = ({ candidate }) => this.#trickle(session, candidate);
    peer.ontrack = ({ track }) => ontrack?.(track);
    const tracks = media?.getTracks() ?? [];
    const received = receive ?? (tracks.length ? tracks.map(({ kind }) => kind) : ["audio"]);
    for (const kind of ["audio", "video"]) {
      const track = tracks.find((sent) => sent.kind === kind);
      const receives = received.includes(kind);
      if (!track && !receives) continue;
      peer.addTransceiver(track ?? kind, { direction: !receives ? "sendonly" : track ? "sendrecv" : "recvonly" });
    }
    const channel = peer.createDataChannel("text");
    channel.onmessage = ({ data }) => this.#onMessage(session, data);
    channel.onclose = () => {
      if (this.#isCurrent(session)) this.#endWithin(session.closing ? CLOSED_TIMEOUT : END_TIMEOUT);
    };
    return peer;
  }

  /** Candidates go out in order, once the offer is answered: a refused one sends none. */
  #trickle(session, candidate) {
    if (candidate?.candidate === "") return; // Firefox: the null after it says the same
    const body = { type: "ice-candidate", webrtc_id: this.id, candidate: candidate?.toJSON() ?? null };
    session.trickled = session.trickled.then(async () => {
      try {
        if (!session.closed) await this.#request("webrtc/offer", session.signal, body);
      } catch (error) {
        if (!session.closed) this.#warn(`A network candidate was not taken: ${error.message}`);
      }
    });
  }

  #isCurrent(session) {
    return session === this.#session && !session.closed && !this.#reconnecting;
  }

  #onPeerState(session) {
    const { connectionState } = session.peer;
    if (session.closed) return;
    if (connectionState === "connected") {
      session.hasConnected = true;
      session.settle();
      this.#wake?.();
      if (this.#isCurrent(session) && this.state === State.INTERRUPTED) this.#arrived();
    } else if (connectionState === "failed" && !session.hasConnected) {
      session.fail(new ConnectionError("ice_failed"));
    } else if (!this.#isCurrent(session)) {
      return;
    } else if (connectionState === "failed") {
      if (this.state === State.ENDING) this.#endWithin(END_TIMEOUT);
      else this.#lose("ice_failed");
    } else if (connectionState === "disconnected" && this.state === State.CONNECTED) {
      this.#set(State.INTERRUPTED);
      this.#after(DISCONNECTED_TIMEOUT, () => this.#lose("ice_failed"));
    }
  }

  #arrived() {
    if (this.#over) return;
    this.#connectedAt ??= Date.now();
    if (this.state !== State.ENDING) this.#set(State.CONNECTED);
  }

  #onMessage(session, text) {
    if (session.closed) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = String(text);
    }
    this.#options.onmessage?.(message);
    const { type, data } = message ?? {};
    if (!this.#isCurrent(session)) return;
    if (type === "end_stream") this.#endWithin(DRAIN_TIMEOUT);
    if (type === "update_connection" && data === "closed") {
      session.closing = true;
      this.#endWithin(CLOSED_TIMEOUT);
    }
  }

  /** The server is closing: its event stream says why, after the last output. */
  #endWithin(seconds) {
    this.#set(State.ENDING);
    this.#after(seconds, () => this.#finish(State.ENDED));
  }

  /**
   * Read the outputs from the cursor on, in place of the reader before, which may be one of another
   * session. EventSource resumes by itself; where it gives up (an answer other than 200) it is
   * opened anew.
   */
  #follow() {
    const { onoutput, ongap } = this.#options;
    const { signal } = this.#session;
    let delay = OUTPUTS_DELAY.first;
    let source;
    let timer;
    const open = () => {
      const url = new URL("outputs", this.#base);
      url.searchParams.set("webrtc_id", this.id);
      if (this.#cursor) url.searchParams.set("last_event_id", this.#cursor);
      source = new EventSource(url);
      source.onopen = () => { delay = OUTPUTS_DELAY.first; };
      source.addEventListener("output", ({ data, lastEventId }) => {
        this.#cursor = lastEventId;
        onoutput?.(JSON.parse(data), lastEventId);
      });
      source.addEventListener("gap", () => ongap?.());
      source.addEventListener("end", ({ data, lastEventId }) => {
        if (lastEventId) this.#cursor = lastEventId;
        source.close();
        this.#onEnd(data);
      });
      source.onerror = () => {
        if (signal.aborted) return;
        this.#warn("The outputs were interrupted; they are taken up where they stopped.");
        if (source.readyState !== EventSource.CLOSED) return;
        timer = setTimeout(open, jittered(delay) * 1000);
        delay = Math.min(2 * delay, OUTPUTS_DELAY.most);
      };
    };
    open();
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      source.close();
    }, { once: true });
  }

  #onEnd(data) {
    let reason = data;
    try {
      reason = JSON.parse(data).reason ?? data;
    } catch { /* the bare word */ }
    const session = this.#session;
    if (this.#reconnecting) {
      if (MEANT.has(reason)) return this.#finish(State.ENDED, { reason });
      session.hasConnected = false; // it cannot recover
      session.fail(new ConnectionError(reason));
    } else if (!LOST.has(reason) || (UNREACHABLE.has(reason) && !session.hasConnected)) {
      this.#finish(State.ENDED, { reason });
    } else {
      session.hasConnected = false;
      this.#lose(reason);
    }
  }

  /** The connection is gone and nobody meant it: bring it back, if that is wanted. */
  #lose(reason) {
    if (this.#options.reconnect === false) return this.#finish(State.FAILED, { reason });
    clearTimeout(this.#timer);
    this.#reconnecting = true;
    this.#session.admitted = false;
    this.#session.fail(new ConnectionError(reason));
    this.#reconnect(reason);
  }

  async #reconnect(reason) {
    const began = Date.now();
    if (this.#connectedAt && began - this.#connectedAt > STABLE * 1000) this.#tries = 0;
    let error;
    while (this.#tries < TRIES) {
      const wait = jittered(Math.min(DELAY.first * 2 ** this.#tries, DELAY.most));
      const delay = Math.max(wait, error?.retryAfter ?? 0);
      if (Date.now() + delay * 1000 > began + TIME * 1000) break;
      this.#tries += 1;
      this.#set(State.RECONNECTING, { reason, attempt: this.#tries, attempts: TRIES, delay, error });
      const recovered = await this.#pause(delay, Boolean(error?.retryAfter));
      if (this.#over) return;
      try {
        if (!recovered) await this.#open(TRY_TIMEOUT);
        this.#reconnecting = false;
        this.#connectedAt = Date.now();
        this.#arrived();
        if (recovered) this.#recover();
        return;
      } catch (failure) {
        if (this.#over) return;
        error = failure;
        if (!error.passes) break;
      }
    }
    this.#finish(State.FAILED, { reason, error });
  }

  /** The session that seemed to be lost is there as before. */
  #recover() {
    this.#session.admitted = true;
    this.#sendLast(this.#session);
  }

  /**
   * Wait before a try; less when the network is back, unless the server has told the time. Whether
   * the session that was lost has recovered meanwhile.
   */
  #pause(seconds, fixed) {
    const session = this.#session;
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", done);
        this.#wake = null;
        resolve(session.hasConnected && session.peer.connectionState === "connected");
      };
      const timer = setTimeout(done, seconds * 1000);
      if (!fixed) globalThis.addEventListener?.("online", done);
      this.#wake = done;
    });
  }

  #after(seconds, action) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, seconds * 1000);
  }

  #warn(text) {
    if (!this.#over) this.#options.onwarning?.(text);
  }

  #set(state, detail = {}) {
    clearTimeout(this.#timer);
    this.state = state;
    this.#options.onstate?.(state, detail);
  }

  /** The only exit: whatever was opened is closed. */
  #finish(state, detail) {
    if (this.#over) return;
    this.#abort.abort();
    this.#wake?.();
    this.#set(state, detail);
  }
}
