// The state of the call and what went wrong with it, as the card "Call" shows them.

import { $ } from "./elements.js";
import { messages } from "./entries.js";
import { deviceName } from "./media.js";
import { kinds } from "./stream.js";

export const State = Object.freeze({
  IDLE: "idle",
  DEVICES: "devices",
  CONNECTING: "connecting",
  CONNECTED: "connected",
  INTERRUPTED: "interrupted",
  ENDING: "ending",
  ENDED: "ended",
  FAILED: "failed",
});

// What each state is called, and what the button does in it.
const STATE_TEXT = {
  idle: ["Not connected", "Connect"],
  devices: [`Waiting for the ${deviceName(kinds)}`, "Cancel"],
  connecting: ["Connecting", "Cancel"],
  connected: ["Connected", "Disconnect"],
  interrupted: ["Interrupted, trying to recover", "Disconnect"],
  ending: ["Ending", "Disconnect"],
  ended: ["Call ended", "Connect"],
  failed: ["Not connected", "Connect"],
};

export function setState(state) {
  const [text, action] = STATE_TEXT[state];
  const shown = $("state");
  if (shown.dataset.state === state) return;
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
