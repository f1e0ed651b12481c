// What goes wrong, in words that a person can act on.

/** Something the person has to know: a title, what to do, and whether trying again may help. */
export class Problem extends Error {
  constructor(title, text, { retryAfter = 0, retry = true, fields = null } = {}) {
    super(text);
    Object.assign(this, { title, retryAfter, retry, fields });
  }
}

// Where no server answered, or no media came.
const NETWORK = {
  unreachable: ["The server cannot be reached", "Check your network connection, then try again."],
  timeout: ["The server does not answer", "There was no answer in time."],
  connect_timeout: ["The call did not come up", "No media connection came up in time. A firewall may block it."],
  ice_failed: ["The media connection failed",
    "No network path to the media server was found. A firewall or VPN may block it."],
};

/** The words for a ConnectionError of rayrtc.js. */
export function problemOf({ code, status, message, limit, retryAfter, fields }) {
  const wait = { retryAfter };
  if (status === 0) return new Problem(...(NETWORK[code] ?? ["The call could not be set up", message]));
  if (status === 429) {
    const text = limit === undefined ? "Too many calls are running."
      : limit === 1 ? "This stream takes one call at a time, and one is running."
        : `This stream takes ${limit} calls at a time, and ${limit} are running.`;
    return new Problem("All places are taken", `${text} Try again when one has ended.`, wait);
  }
  if (status === 503) {
    return new Problem("No media server is free", "All of them are busy or still starting. Try again in a moment.", wait);
  }
  if (status === 422) {
    return new Problem("The server did not accept the values", "Please correct them.", { fields });
  }
  if (status === 401 || status === 403) {
    return new Problem("Access denied", "You are not allowed to use this stream. Sign in and load the page again.");
  }
  const reason = message !== code ? message
    : code.startsWith("status_") ? `The server answered with status ${status}.` : code.replaceAll("_", " ");
  return new Problem(status >= 500 ? "The server has a problem" : "The server refused the request", reason, wait);
}
