// The state of the call and what went wrong with it, as the card "Call" shows them.

import { $ } from "./elements.js";
import { messages } from "./entries.js";
import { deviceName } from "./media.js";
import { State } from "./rayrtc.js";
import { kinds } from "./stream.js";

/** The state before those of a connection: the person is asked. */
export const DEVICES = "devices";

// What each state is called, and what the button does in it.
const STATE_TEXT = {
  [State.IDLE]: ["Not connected", "Connect"],
  [DEVICES]: [`Waiting for the ${deviceName(kinds)}`, "Cancel"],
  [State.CONNECTING]: ["Connecting", "Cancel"],
  [State.CONNECTED]: ["Connected", "Disconnect"],
  [State.INTERRUPTED]: ["Interrupted, trying to recover", "Disconnect"],
  [State.RECONNECTING]: ["Reconnecting", "Cancel"],
  [State.ENDING]: ["Ending", "Disconnect"],
  [State.ENDED]: ["Call ended", "Connect"],
  [State.FAILED]: ["Not connected", "Connect"],
};

/** `detail` is shown in place of the state's own words. */
export function setState(state, detail) {
  const [words, action] = STATE_TEXT[state];
  const text = detail ?? words;
  const shown = $("state");
  if (shown.dataset.state === state && shown.textContent === text) return;
  shown.dataset.state = state;
  shown.textContent = text;
  $("connect").textContent = action;
  $("connect").dataset.action = action === "Connect" ? "start" : "end";
  messages.add("state", text);
}

export function setNotice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

let countdown;

export function showProblem(problem) {
  clearInterval(countdown);
  $("error-title").textContent = problem.title;
  $("error-text").textContent = problem.message;
  $("error").hidden = false;
  $("retry").hidden = !problem.retry;
  let left = Math.ceil(problem.retryAfter);
  const tick = () => {
    $("retry").disabled = left > 0;
    $("retry").textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left-- <= 0) clearInterval(countdown);
  };
  countdown = setInterval(tick, 1000);
  tick();
}

export function hideProblem() {
  clearInterval(countdown);
  $("error").hidden = true;
}
