// Requests of the public HTTP contract, and their failures in words that a person can act on.

import { base } from "./stream.js";

const REQUEST_TIMEOUT = 15; // seconds

/** Something the person has to know: a title, what to do, and whether trying again may help. */
export class Problem extends Error {
  constructor(title, text, { retryAfter = 0, retry = true, fields = null } = {}) {
    super(text);
    Object.assign(this, { title, retryAfter, retry, fields });
  }
}

function refusal(response, body) {
  const { error, limit, detail } = body.meta ?? {};
  const after = Number(response.headers.get("Retry-After"));
  const wait = { retryAfter: Number.isFinite(after) ? after : 0 };
  if (response.status === 429) {
    const text = limit === undefined ? "Too many calls are running."
      : limit === 1 ? "This stream takes one call at a time, and one is running."
        : `This stream takes ${limit} calls at a time, and ${limit} are running.`;
    return new Problem("All places are taken", `${text} Try again when one has ended.`, wait);
  }
  if (response.status === 503) {
    return new Problem("No media server is free", "All of them are busy or still starting. Try again in a moment.", wait);
  }
  if (response.status === 422) {
    return new Problem("The server did not accept the values", "Please correct them.", { fields: body.detail });
  }
  if (response.status === 401 || response.status === 403) {
    return new Problem("Access denied", "You are not allowed to use this stream. Sign in and load the page again.");
  }
  const reason = detail || (error ?? "").replaceAll("_", " ") || `The server answered with status ${response.status}.`;
  return new Problem(response.status >= 500 ? "The server has a problem" : "The server refused the request", reason, wait);
}

/** GET, or POST when there is a body. Throws a Problem for anything but a 2xx answer. */
export async function request(path, signal, body) {
  const options = { signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT * 1000)]) };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  }
  let response;
  try {
    response = await fetch(new URL(path, base), options);
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "TimeoutError") {
      throw new Problem("The server does not answer", `There was no answer within ${REQUEST_TIMEOUT} seconds.`);
    }
    throw new Problem("The server cannot be reached", "Check your network connection, then try again.");
  }
  throw refusal(response, await response.json().catch(() => ({})));
}
