// What the server says of its stream in `#stream-config`. No option is set in the page.

import { kindsOf } from "./media.js";

export const config = JSON.parse(document.getElementById("stream-config").textContent);
export const base = new URL(`./${(config.prefix ?? "").replace(/^\/|\/$/g, "")}/`.replace("//", "/"), document.baseURI);
export const kinds = kindsOf(config.modality);
export const shows = kinds.includes("video");
export const sounds = kinds.includes("audio");
export const sends = config.mode !== "receive";
export const receives = config.mode !== "send";
