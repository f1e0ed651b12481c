// The form of the stream's inputs.

import { $ } from "./elements.js";
import { messages } from "./entries.js";
import { makeField, resolve } from "./fields.js";
import { problemOf } from "./problems.js";

const DEBOUNCE = 0.3; // seconds

// A stream without an input model takes a bare list, once its handler asks for one.
const LIST_SCHEMA = {
  properties: { inputs: { type: "array", title: "Inputs", description: "A JSON list, the arguments of set_input." } },
};

/** The stream's inputs: sent when they change during a call and when the handler asks. */
export class InputForm {
  call = null; // whose inputs they are

  constructor(schema) {
    const root = schema ?? LIST_SCHEMA;
    const { properties = {}, required = [] } = resolve(root, root);
    this.fields = Object.keys(properties).filter((name) => name !== "webrtc_id")
      .map((name) => makeField(name, properties[name], root, required.includes(name)));
    $("inputs").append(...this.fields.map((field) => field.element));
    $("inputs-card").hidden = !schema || this.fields.length === 0;
    this.declared = Boolean(schema);
    $("inputs").addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.send(), DEBOUNCE * 1000);
    });
    $("inputs").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  /** One request at a time; what changes meanwhile goes out after it. */
  async send() {
    clearTimeout(this.timer);
    if (!this.#connection) return this.#say("Sent when a call begins");
    this.stale = true;
    if (this.sending) return;
    this.sending = true;
    while (this.stale && this.#connection) {
      this.stale = false;
      await this.#post(this.call);
    }
    this.sending = false;
  }

  /** Of the call, once it has begun; while it is brought back it keeps the inputs for then. */
  get #connection() {
    const { closed, connection } = this.call ?? {};
    return !closed && connection?.peer ? connection : null;
  }

  async #post(to) {
    const values = this.#read();
    if (!values || (!this.declared && values.inputs === undefined)) return;
    try {
      await to.connection.send(values);
      const time = new Date().toTimeString().slice(0, 8);
      this.#say(to.connection.admitted ? `Sent at ${time}` : "Sent when the call is back");
    } catch (error) {
      if (to.closed) return this.#say("");
      const problem = problemOf(error);
      this.#say(problem.fields ? "Not accepted" : "Not sent");
      if (!this.#place(problem.fields)) messages.add("error", `Inputs: ${problem.title}. ${problem.message}`);
    }
  }

  #read() {
    const values = {};
    let valid = true;
    for (const field of this.fields) {
      field.setError("");
      try {
        values[field.name] = field.read();
      } catch (error) {
        field.setError(error.message);
        valid = false;
      }
    }
    if (!valid) this.#say("Not sent");
    return valid ? values : null;
  }

  /** Puts each error of a 422 (FastAPI's `detail`) beside its field; false if one has none. */
  #place(errors) {
    if (!Array.isArray(errors)) return false;
    return errors.map(({ loc = [], msg }) => {
      const field = this.fields.find(({ name }) => loc.includes(name));
      field?.setError(msg);
      return Boolean(field);
    }).every(Boolean);
  }

  #say(text) {
    $("inputs-state").textContent = text;
  }
}
