// The page of a stream: one call at a time, its inputs, outputs, messages and statistics.
// It knows the public HTTP contract and nothing else of the server.

import { Call, player } from "./call.js";
import { $, make } from "./elements.js";
import { outputs } from "./entries.js";
import { InputForm } from "./inputs.js";
import { showStats } from "./statistics.js";
import { hideProblem, setNotice } from "./status.js";
import { config, receives, sends, shows, sounds } from "./stream.js";

const inputs = new InputForm(config.inputs_schema);
let call = null;

function startCall() {
  hideProblem();
  setNotice("");
  outputs.clear();
  showStats({});
  call = inputs.call = new Call(inputs);
  call.start();
}

function showConfig() {
  const title = config.title || config.name;
  document.title = title;
  $("title").textContent = title;
  $("subtitle").textContent = config.subtitle ?? "";
  $("subtitle").hidden = !config.subtitle;
  const isAddress = /^(https?:|data:|\.{0,2}\/)/.test(config.icon ?? "");
  if (config.icon) $("icon").replaceChildren(isAddress ? make("img", { src: config.icon, alt: "" }) : config.icon);
  $("mic-row").hidden = !sends || !sounds;
  $("reply-row").hidden = !receives || !sounds;
  $("pictures").hidden = !shows;
  $("preview-figure").hidden = !sends;
  $("reply-figure").hidden = !receives;
}

$("connect").addEventListener("click", () => {
  if (call && !call.closed) call.hangUp();
  else startCall();
});
$("retry").addEventListener("click", () => {
  $("connect").focus();
  startCall();
});
$("play").addEventListener("click", () => {
  $("play").hidden = true;
  player.play();
  call?.context.resume();
});
window.addEventListener("pagehide", () => call?.hangUp());
showConfig();
